//! How a kind of filesystem is held up, and what it rests on.

use std::path::PathBuf;

use crate::disk::mounts::{self, Mount};
use crate::disk::stack;

/// How the writers of a filesystem are held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It freezes.
    Freeze,
    /// It has no freezing, and is made read-only with the descriptors that are open for writing.
    ReadOnly,
}

/// What rests on other filesystems in a way that no device tells.
#[must_use]
pub fn above(mount: &Mount) -> u8 {
    match mount.kind.as_str() {
        kind if kind.starts_with("fuse") => 2,
        "overlay" => 1,
        _ => 0,
    }
}

/// How its writers are held up, where there is no choice.
#[must_use]
pub fn hold_of(mount: &Mount) -> Hold {
    if cannot_freeze(mount).is_some() {
        Hold::ReadOnly
    } else {
        Hold::Freeze
    }
}

/// Whether it can be made read-only for the instant.
#[must_use]
pub fn suits_read_only(mount: &Mount) -> bool {
    let kind = mount.kind.as_str();
    matches!(kind, "tmpfs" | "ramfs" | "overlay" | "fuseblk" | "fuse") || kind.starts_with("fuse.")
}

/// Why a kind of filesystem does not freeze, or not to any purpose.
#[must_use]
pub fn cannot_freeze(mount: &Mount) -> Option<&'static str> {
    match mount.kind.as_str() {
        kind if kind == "fuseblk" || kind == "fuse" || kind.starts_with("fuse.") => {
            Some("a process serves it, which might be one of those that freeze")
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "afs" => {
            Some("its disk is on another machine, which goes on writing")
        }
        "tmpfs" | "ramfs" | "hugetlbfs" => {
            Some("it has no device, and what processes map of it is in the image")
        }
        _ if stack::devices_of(mount).is_empty() => Some("it has no device"),
        _ => None,
    }
}

/// An overlay writes to the filesystem that has its upper folder: that is the one to freeze.
#[must_use]
pub fn beneath<'a>(mount: &'a Mount, mounts: &'a [Mount]) -> &'a Mount {
    if mount.kind != "overlay" {
        return mount;
    }
    upper_of(mount)
        .and_then(|upper| stack::mount_of(&upper, mounts))
        .unwrap_or(mount)
}

/// Where an overlay writes to, as whoever mounted it names it.
#[must_use]
pub fn upper_of(overlay: &Mount) -> Option<PathBuf> {
    let mut options = overlay.options.split(',');
    let upper = options.find_map(|option| option.strip_prefix("upperdir="))?;
    Some(mounts::path(upper.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{beneath, cannot_freeze};
    use crate::disk::mounts::tests::mount;

    #[test]
    fn an_overlay_is_its_upper_folder() {
        let mounts = [
            mount("/", "ext4", "rw"),
            mount(
                "/merged",
                "overlay",
                "rw,lowerdir=/l,upperdir=/var/u,workdir=/var/w",
            ),
        ];
        assert_eq!(beneath(&mounts[1], &mounts), &mounts[0]);
        assert_eq!(beneath(&mounts[0], &mounts), &mounts[0]);
        // The kernel writes the blank so.
        let mounts = [
            mount("/", "ext4", "rw"),
            mount("/a b", "xfs", "rw"),
            mount("/merged", "overlay", r"rw,lowerdir=/l,upperdir=/a\040b/u"),
        ];
        assert_eq!(beneath(&mounts[2], &mounts), &mounts[1]);
    }

    #[test]
    fn what_cannot_freeze_says_why() {
        assert!(cannot_freeze(&mount("/", "ext4", "rw")).is_none());
        for kind in ["fuse.sshfs", "fuseblk", "nfs4", "tmpfs", "proc", "overlay"] {
            assert!(cannot_freeze(&mount("/x", kind, "rw")).is_some(), "{kind}");
        }
    }
}
