//! Two filesystems with disks of their own.

use super::fs::{Kind, Mount};
use super::held::HeldTake;
use super::{Disk, dm};
use crate::sectors::{Mode, Writer};
use crate::sh;

/// Two filesystems, of which the second has a writer, and a partition for a store.
pub struct Pair {
    // In the order in which they go.
    /// On [`Pair::other`].
    pub writer: Writer,
    /// An ext4 on the device `one`.
    pub one: Mount,
    /// An XFS on the device `other`.
    pub other: Mount,
    /// For a store.
    pub key: String,
    _disk: Disk,
}

impl Pair {
    /// Sets them up.
    #[must_use]
    pub fn new() -> Self {
        let disk = Disk::split(&[("one", 300), ("other", 300), ("key", 700)]);
        let device = |name: &str| dm::linear(name, &disk.part(name));
        let one = Kind::Ext4.fresh(&device("one"), "one");
        let other = Kind::Xfs.fresh(&device("other"), "other");
        Self {
            writer: Writer::spawn(&other.path("writer"), Mode::Direct, 128),
            one,
            other,
            key: disk.part("key"),
            _disk: disk,
        }
    }

    /// Lets a take go on that is held before it freezes both, but the first has something to write back, and cannot.
    #[must_use]
    pub fn hangs(&self, held: &mut HeldTake) -> dm::Suspended {
        sh(&format!(
            "dd if=/dev/zero of={} bs=64K count=8 status=none",
            self.one.path("dirty")
        ));
        let suspended = dm::Suspended::new("one");
        held.goes_on();
        suspended
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}
