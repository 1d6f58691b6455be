//! The disk's half: filesystems to freeze, devices to switch, and why either failed.

use super::Stamp;

/// The most filesystems of one take.
pub const MAX_FILESYSTEMS: u32 = 256;
/// The most devices that one take switches.
pub const MAX_SWITCHES: u32 = 256;
/// Size of `ff_switch.params`.
pub const PARAMS_BYTES: u32 = 128;
/// Filesystems are frozen, and devices switched, on request.
pub const FEATURE_FILESYSTEMS: u64 = 1 << 8;
/// Page faults that would write to a filesystem that freezes wait without the locks that the stop needs.
pub const FEATURE_FAULT_GATE: u64 = 1 << 9;
/// Filesystems that have no freezing are made read-only ([`FS_READ_ONLY`]).
pub const FEATURE_READ_ONLY: u64 = 1 << 10;
/// `ff_fs.flags`: it has no freezing of its own, and is made read-only for the instant.
pub const FS_READ_ONLY: u32 = 1 << 0;
/// `ff_fs.flags`: it may freeze at the same time as the one before it.
pub const FS_TOGETHER: u32 = 1 << 1;
/// Not a descriptor of a file (EBADF).
pub const REASON_FS_BAD_FD: u32 = 25;
/// No device beneath, or a process that serves it; or not one for [`FS_READ_ONLY`] (EOPNOTSUPP).
pub const REASON_FS_KIND: u32 = 26;
/// Named twice (EEXIST).
pub const REASON_FS_TWICE: u32 = 27;
/// Somebody else has frozen it (EBUSY).
pub const REASON_FS_FROZEN: u32 = 28;
/// It could not be written back.
pub const REASON_FS_SYNC: u32 = 29;
/// It could not be frozen.
pub const REASON_FS_FREEZE: u32 = 30;
/// It was not frozen by the deadline (ETIMEDOUT).
pub const REASON_FS_TIMEOUT: u32 = 31;
/// Somebody else thawed it in the stop (EBUSY).
pub const REASON_FS_THAWED: u32 = 32;
/// `dm_control` is not `/dev/mapper/control` (EBADF).
pub const REASON_DM_CONTROL: u32 = 33;
/// The device mapper does not take the table.
pub const REASON_DM_LOAD: u32 = 34;
/// The device could not be suspended.
pub const REASON_DM_SUSPEND: u32 = 35;
/// The device did not get the new table.
pub const REASON_DM_SWITCH: u32 = 36;
/// With filesystems frozen, `mmap_lock` of a target could not be had by the deadline (ETIMEDOUT).
pub const REASON_LOCK_TIMEOUT: u32 = 37;
/// The stop outlived the deadline, and the filesystems were thawed (ETIMEDOUT).
pub const REASON_DISK_ESCAPED: u32 = 38;

/// `struct ff_fs`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Fs {
    /// In: any descriptor of a file on it; `O_PATH` will do.
    pub fd: i32,
    /// In: `FS_*`.
    pub flags: u32,
    /// Out: 4 KiB pages written back in `sync`.
    pub sync_pages: u64,
    /// Out: 4 KiB pages written back while it froze.
    pub freeze_pages: u64,
    /// Out: in prepare, while writers go on.
    pub sync: Stamp,
    /// Out.
    pub freeze: Stamp,
    /// Out.
    pub thaw: Stamp,
    /// Out: open files that could be written to through descriptors, and could not for the instant.
    pub downgraded: u32,
    /// Out: those that no descriptor showed.
    pub unseen: u32,
    /// Out: shared mappings that could be written through, and still could.
    pub mappings: u32,
    /// In: 0.
    pub reserved: u32,
}

/// `struct ff_switch`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Switch {
    /// In: the device's number, as `st_rdev` has it.
    pub dev: u64,
    /// In: its size, in sectors of 512 bytes.
    pub sectors: u64,
    /// In: index of its filesystem.
    pub fs: u32,
    /// Out: 1 if it has the new table, whatever the result of the take.
    pub switched: u32,
    /// In: of the target `snapshot`, NUL-terminated.
    pub params: [u8; PARAMS_BYTES as usize],
    /// Out: in prepare.
    pub load: Stamp,
    /// Out.
    pub suspend: Stamp,
    /// Out: the swap and the resume.
    pub swap: Stamp,
}
