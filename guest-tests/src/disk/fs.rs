//! Filesystems: made, mounted, checked.

use std::fs::File;

use super::{MOUNTS, dm};
use crate::sh;

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Makes one, the whole of it: nobody but the test writes to it afterwards.
    pub fn make(self, device: &str) {
        let how = match self {
            Self::Ext4 => "-F -E lazy_itable_init=0",
            Self::Xfs | Self::Btrfs => "-f",
        };
        sh(&format!("mkfs.{} -q {how} {device}", self.name()));
    }

    /// Makes one and mounts it below [`MOUNTS`].
    #[must_use]
    pub fn fresh(self, device: &str, name: &str) -> Mount {
        self.make(device);
        Mount::new(device, name)
    }

    /// Checks one that is not mounted, by way of a view of its device: another device may hold that, and a frozen XFS has a log to be
    /// replayed, by design.
    ///
    /// # Panics
    ///
    /// When anything is wrong with it.
    pub fn check(self, device: &str) {
        let sectors = dm::sectors(device);
        let view = "/dev/mapper/check-view";
        let (make, check) = match self {
            Self::Ext4 => (
                format!("dmsetup create -r check-view --table '0 {sectors} linear {device} 0'"),
                format!("e2fsck -f -n {view}"),
            ),
            Self::Btrfs => (
                format!("dmsetup create -r check-view --table '0 {sectors} linear {device} 0'"),
                format!("btrfs check --readonly {view}"),
            ),
            Self::Xfs => (
                format!(
                    "mkdir -p /tmp/disk/check.d
                     truncate -s 256M /tmp/disk/check
                     loop=$(losetup -f --show /tmp/disk/check)
                     dmsetup create check-view --table \"0 {sectors} snapshot {device} $loop N 8\"
                     losetup -d $loop
                     rm /tmp/disk/check
                     mount -o nouuid {view} /tmp/disk/check.d
                     umount /tmp/disk/check.d"
                ),
                format!("xfs_repair -n {view}"),
            ),
        };
        sh(&format!(
            "{make}
             result=0
             {check} 2>&1 || result=$?
             dmsetup remove --retry check-view
             exit $result"
        ));
    }
}

/// A mounted filesystem, unmounted when it goes out of scope.
pub struct Mount {
    /// Where.
    pub dir: String,
    device: String,
}

impl Mount {
    /// Mounts one below [`MOUNTS`].
    #[must_use]
    pub fn new(device: &str, name: &str) -> Self {
        let dir = format!("{MOUNTS}/{name}");
        sh(&format!("mkdir -p {dir}; mount {device} {dir}"));
        Self {
            dir,
            device: device.to_owned(),
        }
    }

    /// A path on it.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// Opens a file of it.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn open(&self, name: &str) -> File {
        File::open(self.path(name)).unwrap_or_else(|error| panic!("{}: {error}", self.path(name)))
    }

    /// Unmounts it and mounts it again: what is read next is read from the disk.
    pub fn again(&self) {
        sh(&format!("umount {0}; mount {1} {0}", self.dir, self.device));
    }

    /// Somebody can write to it.
    pub fn assert_writable(&self) {
        sh(&format!(
            "timeout 60 dd if=/dev/zero of={0} bs=4k count=4 conv=fsync status=none; rm {0}",
            self.path("writable")
        ));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A test that fails has more to say than this.
        let _ = std::process::Command::new("umount").arg(&self.dir).output();
    }
}
