//! Filesystems: made, mounted, checked.

use std::fs::File;

use super::MOUNTS;
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

    /// Makes one.
    pub fn make(self, device: &str) {
        let force = if self == Self::Ext4 { "-F" } else { "-f" };
        sh(&format!("mkfs.{} -q {force} {device}", self.name()));
    }

    /// Makes one and mounts it below [`MOUNTS`].
    #[must_use]
    pub fn fresh(self, device: &str, name: &str) -> Mount {
        self.make(device);
        Mount::new(device, name)
    }

    /// Checks one that is not mounted and changes nothing. A frozen XFS has a log to be replayed, by design: that is done on a
    /// throw-away snapshot of the device.
    ///
    /// # Panics
    ///
    /// When anything is wrong with it.
    pub fn check(self, device: &str) {
        match self {
            Self::Ext4 => sh(&format!("e2fsck -f -n {device}")),
            Self::Btrfs => sh(&format!("btrfs check --readonly {device} 2>&1")),
            Self::Xfs => sh(&format!(
                "truncate -s 256M /tmp/disk/check
                 loop=$(losetup -f --show /tmp/disk/check)
                 sectors=$(blockdev --getsz {device})
                 dmsetup create check-view --table \"0 $sectors snapshot {device} $loop N 8\"
                 mkdir -p /tmp/disk/check.d
                 mount -o nouuid /dev/mapper/check-view /tmp/disk/check.d
                 umount /tmp/disk/check.d
                 result=0
                 xfs_repair -n /dev/mapper/check-view 2>&1 || result=$?
                 dmsetup remove --retry check-view
                 losetup -d $loop
                 rm /tmp/disk/check
                 exit $result"
            )),
        };
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
