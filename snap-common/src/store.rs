//! What the BPF programs count of the stores: the chunks that were written for the first time, and what that took.

use crate::hist::Histogram;

/// How many stores are counted at once; what a further one does is counted as lost.
pub const STORES: u32 = 64;

/// Where the kernel keeps what the programs want, in bytes from the beginning of each struct. All of it differs from kernel to
/// kernel, and is read from its BTF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// `dm_snap_pending_exception.snap`; 0: nothing is known, and nothing is counted. (It lies behind the exception itself.)
    pub pending_snap: u32,
    /// `dm_snapshot.cow`.
    pub snapshot_cow: u32,
    /// `dm_dev.bdev`.
    pub device_bdev: u32,
    /// `block_device.bd_dev`.
    pub bdev_number: u32,
}

/// The counts of one store, of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StoreCounts {
    /// Chunks that were written for the first time.
    pub exceptions: u64,
    /// Of them, those that the origin's data was copied for: what was written did not fill the chunk.
    pub copies: u64,
    /// How long the copies took: the origin read, the store written.
    pub copying: Histogram,
    /// How long the exceptions took until the store's metadata was written and the writer went on, copies included.
    pub whole: Histogram,
}

impl StoreCounts {
    /// Nothing yet.
    pub const ZERO: Self = Self {
        exceptions: 0,
        copies: 0,
        copying: Histogram::EMPTY,
        whole: Histogram::EMPTY,
    };

    /// Adds other counts.
    pub fn merge(&mut self, other: &Self) {
        self.exceptions = self.exceptions.wrapping_add(other.exceptions);
        self.copies = self.copies.wrapping_add(other.copies);
        self.copying.merge(&other.copying);
        self.whole.merge(&other.whole);
    }
}

/// A device's number as the kernel keeps it in `dev_t`, which is not as it hands it out.
#[must_use]
pub const fn kernel_dev(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// The reverse of [`kernel_dev`]: major and minor.
#[must_use]
pub const fn major_minor(dev: u32) -> (u32, u32) {
    (dev >> 20, dev & 0xf_ffff)
}

// SAFETY: `#[repr(C)]`, made of u32 alone: no padding, and every bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Layout {}

// SAFETY: `#[repr(C)]`, made of u64 and histograms of u64: no padding, and every bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for StoreCounts {}

#[cfg(test)]
mod tests {
    use super::{StoreCounts, kernel_dev, major_minor};

    #[test]
    fn numbers_come_back_whole() {
        for (major, minor) in [(0, 0), (253, 5), (259, 0xf_ffff), (4095, 1)] {
            assert_eq!(major_minor(kernel_dev(major, minor)), (major, minor));
        }
    }

    #[test]
    fn merging_keeps_every_count() {
        let mut one = StoreCounts::ZERO;
        one.whole.record(5);
        one.exceptions = 1;
        let mut two = one;
        two.copies = 3;
        two.copying.record(9);
        one.merge(&two);
        assert_eq!((one.exceptions, one.copies), (2, 3));
        assert_eq!((one.whole.count(), one.copying.count()), (2, 1));
        assert_eq!((one.whole.sum_ns, one.copying.sum_ns), (10, 9));
    }
}
