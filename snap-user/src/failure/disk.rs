//! Why the disk's half of a take failed.

use std::io;

use snap_common::abi;

use super::{FailureKind, Refusal};
use crate::device::DiskCall;

/// Words a failure of a filesystem or of a device: what it is about, and why. `None`: it is of neither.
pub(super) fn explain(
    refusal: &Refusal,
    call: &DiskCall,
    source: &io::Error,
) -> Option<(FailureKind, String)> {
    let filesystem = name(refusal.filesystem, &call.filesystem_names, "the filesystems");
    let device = name(refusal.device, &call.switch_names, "the devices");
    let freeze = |why: &str| format!("cannot freeze {filesystem}: {why}");
    let switch = |why: &str| format!("cannot switch {device} to a snapshot: {why}");
    let kind = FailureKind::Disk;
    Some(match refusal.reason {
        abi::REASON_FS_BAD_FD => (kind, freeze("it is gone; see `findmnt`")),
        abi::REASON_FS_KIND => (kind, freeze("its kind cannot freeze, or not be made read-only; leave it out")),
        abi::REASON_FS_TWICE => (kind, freeze("it is named twice; name one of its mount points")),
        abi::REASON_FS_FROZEN => (kind, freeze("somebody else has frozen it; thaw it with `fsfreeze -u`, or wait until they do")),
        abi::REASON_FS_SYNC => {
            (kind, freeze(&format!("what is dirty cannot be written back ({source}); look at the disk (`dmesg`)")))
        }
        abi::REASON_FS_FREEZE => (kind, freeze(&format!("{source}; look at the disk (`dmesg`)"))),
        abi::REASON_FS_TIMEOUT => (
            FailureKind::Timeout,
            freeze("it took longer than the deadline, and is thawed as soon as it has frozen; allow more with --deadline"),
        ),
        abi::REASON_FS_THAWED => (
            kind,
            freeze("somebody else thawed it before the instant was over (`fsfreeze -u`); keep them from it, and retry"),
        ),
        abi::REASON_DM_CONTROL => (kind, switch("the device mapper is not there; load it with `modprobe dm-mod`")),
        abi::REASON_DM_LOAD => (
            kind,
            switch(&format!("the device mapper does not take the table ({source}); see `dmesg`, is dm-snapshot there?")),
        ),
        abi::REASON_DM_SUSPEND => (kind, switch(&format!("it cannot be suspended ({source}); see `dmesg`"))),
        abi::REASON_DM_SWITCH => {
            (kind, switch(&format!("it did not get the new table ({source}); it has its old one; see `dmesg`")))
        }
        abi::REASON_LOCK_TIMEOUT => (
            FailureKind::Timeout,
            "with the filesystems frozen, the lock of a process' memory could not be had by the deadline: somebody who has it waits \
             for a filesystem; all was thawed; retry"
                .to_owned(),
        ),
        abi::REASON_DISK_ESCAPED => (
            FailureKind::Timeout,
            "the stop took longer than the deadline, and the filesystems were thawed before it was over; allow more with --deadline"
                .to_owned(),
        ),
        _ => return None,
    })
}

fn name<'a>(index: Option<usize>, names: &'a [String], all: &'a str) -> &'a str {
    index
        .and_then(|index| names.get(index))
        .map_or(all, String::as_str)
}
