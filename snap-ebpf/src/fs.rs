//! Filesystems and block devices that are frozen and thawed. A dm suspend reaches the filesystem through
//! `bdev_freeze` without passing the entry of `freeze_super` (6.12), so both are watched.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{fentry, fexit, map};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::{FEntryContext, FExitContext};
use snap_common::trace::EventKind;

use crate::ring::{emit, event, lost, now};

/// When a thread entered one of the functions below: thread and [`EventKind`] to ns.
#[map]
static FS_ENTERED: LruHashMap<[u64; 2], u64> = LruHashMap::with_max_entries(1024, 0);

fn enter(kind: EventKind) {
    let key = [bpf_get_current_pid_tgid(), kind as u64];
    if FS_ENTERED.insert(&key, &now(), 0).is_err() {
        lost();
    }
}

fn leave(kind: EventKind) {
    let key = [bpf_get_current_pid_tgid(), kind as u64];
    // SAFETY: nobody but this thread writes this entry.
    let Some(entered) = (unsafe { FS_ENTERED.get(&key) }).copied() else {
        return;
    };
    emit(event(kind, 0, now().saturating_sub(entered)));
    if FS_ENTERED.remove(&key).is_err() {
        lost();
    }
}

macro_rules! watch {
    ($function:literal, $entry:ident, $exit:ident, $kind:expr) => {
        #[doc = concat!("Entry of `", $function, "`.")]
        #[fentry(function = $function)]
        pub fn $entry(_ctx: FEntryContext) -> i32 {
            enter($kind);
            0
        }

        #[doc = concat!("Return of `", $function, "`.")]
        #[fexit(function = $function)]
        pub fn $exit(_ctx: FExitContext) -> i32 {
            leave($kind);
            0
        }
    };
}

watch!(
    "freeze_super",
    freeze_super_entry,
    freeze_super_exit,
    EventKind::FsFreeze
);
watch!("thaw_super", thaw_super_entry, thaw_super_exit, EventKind::FsThaw);
// 6.8 and later.
watch!(
    "bdev_freeze",
    bdev_freeze_entry,
    bdev_freeze_exit,
    EventKind::BdevFreeze
);
watch!("bdev_thaw", bdev_thaw_entry, bdev_thaw_exit, EventKind::BdevThaw);
// Before 6.8.
watch!(
    "freeze_bdev",
    freeze_bdev_entry,
    freeze_bdev_exit,
    EventKind::BdevFreeze
);
watch!("thaw_bdev", thaw_bdev_entry, thaw_bdev_exit, EventKind::BdevThaw);
