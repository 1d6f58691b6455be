//! Why a snapshot could not be taken, in one line: what, on whom, what the kernel said, and what to do.

mod disk;

use std::fmt;
use std::io;

use snap_common::abi;
use snap_common::phase::Phase;

use crate::device::{DiskCall, Target};
use crate::report::bytes;

/// The module's `struct ff_failure`, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `REASON_*`.
    pub reason: u32,
    /// Where it failed.
    pub phase: Option<Phase>,
    /// Index into the targets.
    pub target: Option<usize>,
    /// Index into the filesystems.
    pub filesystem: Option<usize>,
    /// Index into the devices.
    pub device: Option<usize>,
    /// The thread it is about.
    pub thread: Option<i32>,
    /// As the reason says.
    pub detail: u64,
    /// As the reason says.
    pub bound: u64,
}

impl Refusal {
    /// Decodes what the module wrote.
    #[must_use]
    pub fn from_raw(raw: &abi::Failure) -> Self {
        Self {
            reason: raw.reason,
            phase: Phase::from_raw(raw.phase),
            target: usize::try_from(raw.target).ok(),
            filesystem: usize::try_from(raw.fs).ok(),
            device: usize::try_from(raw.device).ok(),
            thread: (raw.pid != 0).then_some(raw.pid),
            detail: raw.detail,
            bound: raw.bound,
        }
    }
}

/// What kind of failure it is; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A target that is not there, or that cannot be snapshotted.
    Target,
    /// Not allowed.
    Permission,
    /// It took too long, or the target did not hold still.
    Timeout,
    /// Not enough memory for what the targets may force to be copied.
    Room,
    /// A filesystem or a device that cannot be snapshotted.
    Disk,
    /// Anything else.
    Other,
}

/// A refused or failed snapshot. Nothing is frozen.
#[derive(Debug)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// How many bytes of memory more it would have taken, if that was the reason.
    pub short_of: Option<u64>,
    /// Whether a process was named that is not there any more.
    pub gone: bool,
    message: String,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Failure {
    /// Words it for a person.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the error ends here")]
    pub fn new(refusal: &Refusal, targets: &[Target], call: &DiskCall, source: io::Error) -> Self {
        if let Some((kind, message)) = disk::explain(refusal, call, &source) {
            return Self {
                kind,
                short_of: None,
                gone: false,
                message,
            };
        }
        let whom = refusal.target.and_then(|index| targets.get(index)).map_or_else(
            || "the targets".to_owned(),
            |target| format!("process {}", target.pid),
        );
        let (kind, why) = explain(refusal, &source);
        Self {
            kind,
            gone: matches!(refusal.reason, abi::REASON_NO_SUCH_PROCESS | abi::REASON_EXITING),
            short_of: (refusal.reason == abi::REASON_NO_ROOM)
                .then(|| refusal.detail.saturating_sub(refusal.bound)),
            message: format!("cannot snapshot {whom}: {why}"),
        }
    }

    /// Not enough memory in a cgroup.
    #[must_use]
    pub fn no_room(want: u64, room: u64, group: &str) -> Self {
        Self {
            kind: FailureKind::Room,
            short_of: None,
            gone: false,
            message: format!(
                "cannot snapshot the targets: {}; raise its memory.max, or override with --force",
                room_line(want, room, &format!("the cgroup {group} has room for"))
            ),
        }
    }
}

fn room_line(want: u64, room: u64, place: &str) -> String {
    format!(
        "if they write to all of their memory, {} must be kept twice, and {place} {}",
        bytes(want),
        bytes(room)
    )
}

fn explain(refusal: &Refusal, source: &io::Error) -> (FailureKind, String) {
    use FailureKind::{Other, Permission, Room, Target, Timeout};
    let phase = refusal.phase.map_or("the snapshot", Phase::name);
    let address = refusal.detail;
    match refusal.reason {
        abi::REASON_NO_TARGETS => (Target, "none is named; name one with --pid".into()),
        abi::REASON_TOO_MANY_TARGETS => (
            Target,
            format!(
                "they are more than {}; name fewer, or leave some out (with --all: --exempt PID or NAME)",
                abi::MAX_TARGETS
            ),
        ),
        abi::REASON_NO_SUCH_PROCESS => {
            (Target, "no such process; see `ps -e` (a thread's id is not enough: name its process)".into())
        }
        abi::REASON_KERNEL_THREAD => {
            (Target, "it is a kernel thread and has no memory of its own; name a user process".into())
        }
        abi::REASON_SELF => {
            (Target, "it is freezeframe itself and could not thaw itself; leave it out".into())
        }
        abi::REASON_DUPLICATE => (Target, "it is named twice; name it once".into()),
        abi::REASON_EXITING => (Target, "it is exiting or a zombie; there is no memory left to hold".into()),
        abi::REASON_FOREIGN_NOTIFIER => (
            Target,
            "KVM, RDMA or a GPU maps its memory too, and their writes would miss the snapshot; stop that use first"
                .into(),
        ),
        abi::REASON_HUGETLB => (
            Target,
            format!("it maps hugetlb pages at {address:#x}, which are not supported; use transparent huge pages"),
        ),
        abi::REASON_NO_MEMORY => {
            (Other, format!("out of memory in {phase}; free some, or snapshot fewer processes at once"))
        }
        abi::REASON_FREEZE_TIMEOUT => (
            Timeout,
            format!(
                "thread {} did not stop before the deadline; it was let go; retry, or allow more with --deadline",
                refusal.thread.unwrap_or(0)
            ),
        ),
        abi::REASON_DEADLINE => {
            (Timeout, "the deadline passed while it stood still; it was let go; allow more with --deadline".into())
        }
        abi::REASON_EXEC => (Timeout, "it kept calling execve(); retry when it has settled".into()),
        abi::REASON_INTERRUPTED => (Other, format!("we were killed in {phase}; it was let go")),
        abi::REASON_SWAP_IN => (
            Other,
            format!("its page at {address:#x} cannot be read back from swap ({source}); check the swap device"),
        ),
        abi::REASON_INJECTED => (Other, format!("a fault was injected in {phase}: this is a test build of the module")),
        abi::REASON_PERMISSION => (Permission, "not permitted; run as root (CAP_SYS_ADMIN)".into()),
        abi::REASON_NO_FD => (Other, "no free file descriptor; raise `ulimit -n`".into()),
        abi::REASON_NO_ROOM => (
            Room,
            format!(
                "{}; free some, let --reclaim do it, or override with --force",
                room_line(refusal.detail, refusal.bound, "the machine has available")
            ),
        ),
        abi::REASON_WOKEN => (
            Timeout,
            "in every try a thread that slept in a system call ran on there; retry, or leave --strict away".into(),
        ),
        abi::REASON_CHANGED => (
            Other,
            format!(
                "the kernel changed its memory at {address:#x} without telling the module, and a page may be lost; this is a \
                 bug: report it with the kernel's version, and use --arm eager"
            ),
        ),
        abi::REASON_STATE_ROOM => (
            Timeout,
            format!(
                "in every try it got more descriptors, timers or signals than there was room for ({}); retry when it is calmer",
                bytes(refusal.detail)
            ),
        ),
        _ => (Other, format!("the module answered in {phase}: {source}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use snap_common::abi;

    use super::{Failure, FailureKind, Refusal};
    use crate::device::{DiskCall, Target};

    fn failure(reason: u32, target: Option<usize>) -> Failure {
        let refusal = Refusal {
            reason,
            phase: None,
            target,
            filesystem: Some(0),
            device: Some(0),
            thread: None,
            detail: 0x7f00,
            bound: 0x1000,
        };
        Failure::new(
            &refusal,
            &[Target { pid: 12 }, Target { pid: 34 }],
            &DiskCall {
                filesystem_names: vec!["/srv (ext4 on ff-srv)".into()],
                switch_names: vec!["ff-srv".into()],
                ..DiskCall::default()
            },
            io::Error::from_raw_os_error(5),
        )
    }

    #[test]
    fn every_reason_is_one_line_that_names_the_process() {
        for reason in (1..=abi::REASON_CHANGED).chain([abi::REASON_STATE_ROOM]) {
            let line = failure(reason, Some(1)).to_string();
            assert!(line.starts_with("cannot snapshot process 34: "), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn every_reason_of_the_disk_is_one_line_that_names_the_thing() {
        for reason in abi::REASON_FS_BAD_FD..=abi::REASON_DISK_ESCAPED {
            let line = failure(reason, None).to_string();
            let about_all = matches!(reason, abi::REASON_LOCK_TIMEOUT | abi::REASON_DISK_ESCAPED);
            assert!(
                about_all || line.contains("/srv (ext4 on ff-srv)") || line.contains("ff-srv"),
                "{line}"
            );
            assert!(line.contains(';') && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn the_kind_follows_the_reason() {
        assert_eq!(
            failure(abi::REASON_NO_SUCH_PROCESS, Some(0)).kind,
            FailureKind::Target
        );
        assert_eq!(failure(abi::REASON_DEADLINE, None).kind, FailureKind::Timeout);
        assert_eq!(
            failure(abi::REASON_PERMISSION, None).kind,
            FailureKind::Permission
        );
        assert_eq!(
            failure(999, None).to_string(),
            "cannot snapshot the targets: the module answered in the snapshot: Input/output error (os error 5)"
        );
    }

    #[test]
    fn too_many_can_be_left_out() {
        let error = failure(abi::REASON_TOO_MANY_TARGETS, None).to_string();
        assert!(error.contains("1024") && error.contains("--exempt"), "{error}");
    }

    #[test]
    fn too_little_room_comes_with_figures() {
        let short = failure(abi::REASON_NO_ROOM, None);
        assert_eq!(
            (short.kind, short.short_of),
            (FailureKind::Room, Some(0x7f00 - 0x1000))
        );
        assert!(
            short.to_string().contains("31.8 KiB must be kept twice"),
            "{short}"
        );
        assert!(short.to_string().contains("available 4.0 KiB"), "{short}");
        assert_eq!(failure(abi::REASON_NO_MEMORY, None).short_of, None);
    }

    #[test]
    fn an_address_is_told() {
        assert!(
            failure(abi::REASON_HUGETLB, Some(0))
                .to_string()
                .contains("0x7f00")
        );
    }
}
