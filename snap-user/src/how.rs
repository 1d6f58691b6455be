//! How a snapshot is taken: how memory is armed, when a thread counts as still, how long that may take.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use snap_common::abi;

/// How memory is made copy-on-write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// `lazy` where they have less than a gigabyte of memory in all, `pud` where they have more; `eager` where the kernel cannot be
    /// hooked
    #[default]
    Auto,
    /// Take a reference to every page while the processes stand still
    Eager,
    /// Only write-protect while they stand still, and take the references afterwards
    Lazy,
    /// Only write-protect whole gigabytes while they stand still: the window does not grow with the memory
    Pud,
}

/// When a thread counts as still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Freeze {
    /// As ipi
    #[default]
    Auto,
    /// When it is parked, or sleeps in the kernel
    Soft,
    /// As soft, or when it was preempted in user mode: it need not run to be still
    Ipi,
    /// When it is parked: system calls are interrupted for that, and may fail with EINTR
    Signal,
}

/// How a snapshot is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// The longest that the targets may stand still, in milliseconds; 0 for the module's default.
    pub deadline_ms: u32,
    /// How memory is armed.
    pub arm: Arm,
    /// When a thread counts as still.
    pub freeze: Freeze,
    /// Start over when a thread that slept ran in the kernel meanwhile.
    pub strict: bool,
    /// What to do where there is not enough memory for the copies that the targets may force.
    pub room: Room,
}

/// What to do where there is not enough memory for the copies that the targets may force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Room {
    /// Refuse.
    #[default]
    Needed,
    /// Make some, and ask again, as long as there is some to be made.
    Reclaimed,
    /// Go on.
    Ignored,
}

impl How {
    /// `FF_TAKE_*`.
    #[must_use]
    pub const fn flags(&self) -> u32 {
        let strict = if self.strict { abi::TAKE_STRICT } else { 0 };
        match self.room {
            Room::Ignored => strict | abi::TAKE_FORCE,
            Room::Needed | Room::Reclaimed => strict,
        }
    }
}

impl Arm {
    /// The modes that an image can name.
    pub const NAMES: [&str; 3] = ["eager", "lazy", "pud"];

    /// `enum ff_arm_mode`.
    #[must_use]
    pub const fn to_raw(self) -> u32 {
        match self {
            Self::Auto => abi::ARM_AUTO,
            Self::Eager => abi::ARM_EAGER,
            Self::Lazy => abi::ARM_LAZY,
            Self::Pud => abi::ARM_PUD,
        }
    }

    /// The name of an `enum ff_arm_mode` of an image.
    #[must_use]
    pub const fn name(raw: u32) -> &'static str {
        match raw {
            abi::ARM_EAGER => "eager",
            abi::ARM_LAZY => "lazy",
            abi::ARM_PUD => "pud",
            _ => "unknown",
        }
    }

    /// What an `enum ff_arm_reason` of an image says.
    #[must_use]
    pub const fn why(raw: u32) -> &'static str {
        match raw {
            abi::ARM_ASKED => "asked for",
            abi::ARM_DEFAULT => "the default",
            abi::ARM_NO_HOOK => "the kernel's page fault handler cannot be hooked; see `freezeframe doctor`",
            abi::ARM_LARGE => "so large that lazy would stop it for longer",
            abi::ARM_WORKERS => "not pud, for io_uring's workers of the process could write unseen",
            _ => "unknown",
        }
    }
}

impl Freeze {
    /// `enum ff_freeze_mode`.
    #[must_use]
    pub const fn to_raw(self) -> u32 {
        match self {
            Self::Auto => abi::FREEZE_AUTO,
            Self::Soft => abi::FREEZE_SOFT,
            Self::Ipi => abi::FREEZE_IPI,
            Self::Signal => abi::FREEZE_SIGNAL,
        }
    }
}
