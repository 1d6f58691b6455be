//! What the snapshot fd takes besides reads.

use super::ioc;

/// `struct ff_release`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Release {
    /// Index of the first data page.
    pub page: u64,
    /// How many.
    pub pages: u64,
    /// How many were let go.
    pub released: u64,
    /// How many of them nobody else had: whoever wrote to them had to copy them.
    pub sole: u64,
}

/// `struct ff_stretch`: a stretch of data pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stretch {
    /// Index of the first.
    pub page: u64,
    /// How many.
    pub pages: u32,
    /// How many are held for the image alone, since they were changed, or copied, or unmapped.
    pub sole: u32,
}

/// The most stretches that one `IOC_LOOK` takes.
pub const MAX_STRETCHES: u32 = 65_536;

/// `struct ff_look`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Look {
    /// Address of `Stretch[count]`, written back.
    pub stretches: u64,
    /// At most `MAX_STRETCHES`; 0: the two sums, which are 0 otherwise.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// Data pages held, in all.
    pub held: u64,
    /// How many of them are held for the image alone: the memory that it costs.
    pub sole: u64,
}

/// `FF_IOC_RELEASE`.
pub const IOC_RELEASE: u64 = ioc(3, 0x10, size_of::<Release>());
/// `FF_IOC_LOOK`.
pub const IOC_LOOK: u64 = ioc(3, 0x11, size_of::<Look>());
