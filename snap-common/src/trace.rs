//! The records that the BPF programs write to their ring buffer, and the raw tracepoints they come from.

/// Names of the module's tracepoints; their arguments are documented in `kmod/freezeframe.h`.
pub mod tracepoint {
    /// A phase began or ended.
    pub const PHASE: &str = "freezeframe_phase";
    /// A thread was found still.
    pub const TASK_STILL: &str = "freezeframe_task_still";
    /// An address space was armed.
    pub const MM_ARMED: &str = "freezeframe_mm_armed";
}

/// What an [`Event`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A phase of ours began: `a` = phase.
    PhaseBegin = 1,
    /// A phase of ours ended: `a` = phase, `b` = negative errno or 0 (as i64).
    PhaseEnd = 2,
    /// A thread of ours stands still: `a` = `enum ff_thread_state`, `b` = ns from asked to still.
    TaskStill = 3,
    /// An address space was armed: `a` = pages, `b` = ns it took.
    MmArmed = 4,
    /// A cgroup's freezing was asked for or undone: `a` = 1 freeze, 0 thaw; `b` = cgroup id.
    CgroupFreeze = 5,
    /// A cgroup became frozen or thawed: `a` = 1 frozen, 0 thawed; `b` = cgroup id.
    CgroupNotifyFrozen = 6,
    /// A filesystem was frozen (`freeze_super`): `a` = `s_dev` or 0, `b` = ns it took.
    FsFreeze = 7,
    /// A filesystem was thawed (`thaw_super`): `a` = `s_dev` or 0, `b` = ns it took.
    FsThaw = 8,
    /// A block device was frozen (`bdev_freeze`, 6.1: `freeze_bdev`; dm suspend comes this way): `b` = ns it took.
    BdevFreeze = 9,
    /// A block device was thawed: `b` = ns it took.
    BdevThaw = 10,
}

impl EventKind {
    /// The kind with this number in a record.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::PhaseBegin,
            2 => Self::PhaseEnd,
            3 => Self::TaskStill,
            4 => Self::MmArmed,
            5 => Self::CgroupFreeze,
            6 => Self::CgroupNotifyFrozen,
            7 => Self::FsFreeze,
            8 => Self::FsThaw,
            9 => Self::BdevFreeze,
            10 => Self::BdevThaw,
            _ => return None,
        })
    }
}

/// One record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// `CLOCK_MONOTONIC` at which it happened.
    pub ns: u64,
    /// The snapshot it belongs to, or 0.
    pub snapshot: u64,
    /// As [`EventKind`] says.
    pub a: u64,
    /// As [`EventKind`] says.
    pub b: u64,
    /// [`EventKind`] as a number.
    pub kind: u32,
    /// The thread it is about, in the initial pid namespace.
    pub pid: u32,
    /// The process of that thread.
    pub tgid: u32,
    /// Keeps the size a multiple of 8; 0.
    pub reserved: u32,
}

#[cfg(test)]
mod tests {
    use super::EventKind;

    #[test]
    fn kinds_round_trip() {
        let known = (0..100)
            .filter_map(EventKind::from_raw)
            .map(|kind| kind as u32)
            .collect::<Vec<_>>();
        assert_eq!(known, (1..=10).collect::<Vec<_>>());
    }
}
