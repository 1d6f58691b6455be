//! A userfaultfd, as the kernel has it (`linux/userfaultfd.h`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

const API: libc::Ioctl = 0xc018_aa3f;
const VERSION: u64 = 0xaa;
/// `UFFDIO_REGISTER`: start, length, mode, and what the kernel answers.
pub const REGISTER: libc::Ioctl = 0xc020_aa00;
/// `UFFDIO_WRITEPROTECT`: start, length, mode.
pub const WRITEPROTECT: libc::Ioctl = 0xc018_aa06;
/// `UFFDIO_CONTINUE`: start, length, mode, and what the kernel answers.
pub const CONTINUE: libc::Ioctl = 0xc020_aa07;
/// `UFFDIO_MOVE`: to, from, length, mode, and what the kernel answers.
pub const MOVE: libc::Ioctl = 0xc028_aa05;

/// Write protection.
pub const FEATURE_WP: u64 = 1;
/// That of shared memory.
pub const FEATURE_WP_SHMEM: u64 = 1 << 12;
/// Faults of shared memory whose pages are there.
pub const FEATURE_MINOR_SHMEM: u64 = 1 << 10;
/// Moving pages.
pub const FEATURE_MOVE: u64 = 1 << 16;

/// Faults of pages that are not there.
pub const MODE_MISSING: u64 = 1;
/// Faults of writers.
pub const MODE_WP: u64 = 2;
/// Faults of pages that are there and not mapped.
pub const MODE_MINOR: u64 = 4;

/// One with features; none where the kernel does not have them.
///
/// # Panics
///
/// When the kernel has no userfaultfd.
#[must_use]
pub fn open(features: u64) -> Option<File> {
    // SAFETY: no memory is involved.
    let made = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    assert!(made >= 0, "userfaultfd: {}", io::Error::last_os_error());
    let made = i32::try_from(made).expect("a descriptor");
    // SAFETY: it was just made, and nobody else has it.
    let file = unsafe { File::from_raw_fd(made) };
    command(&file, API, &mut [VERSION, features, 0]).ok()?;
    Some(file)
}

/// Gives it a command with as many words as that takes.
///
/// # Errors
///
/// As the kernel has it.
pub fn command(file: &File, request: libc::Ioctl, arguments: &mut [u64]) -> io::Result<()> {
    // SAFETY: the caller passes as many words as the request takes, and they outlive the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, arguments.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
