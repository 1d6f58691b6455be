//! System calls on memory, checked.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// The memory may be read and written.
pub const OPEN: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// A mapping of nobody else's.
pub const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Maps memory: at an address of the kernel's choice, or over what is there (`MAP_FIXED`).
pub fn map(at: usize, bytes: usize, flags: i32, file: i32) -> usize {
    // SAFETY: a fresh mapping, or one over memory that the caller gives up.
    let address = unsafe { libc::mmap(at as *mut _, bytes, OPEN, flags, file, 0) };
    assert_ne!(address, libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
    address as usize
}

/// Attaches memory of System V's kind, which goes with the last who has it.
pub fn attach_system_v(at: usize, bytes: usize) {
    // SAFETY: no memory is involved.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600) };
    checked("shmget", id);
    // SAFETY: nothing lies there, or it fails.
    let address = unsafe { libc::shmat(id, at as *const _, 0) };
    assert_eq!(address as usize, at, "shmat: {}", io::Error::last_os_error());
    // SAFETY: it stays for as long as it is attached.
    checked("shmctl", unsafe {
        libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut())
    });
}

/// Gives memory up.
pub fn unmap(at: usize, bytes: usize) {
    // SAFETY: the caller does not look at it any more.
    checked("munmap", unsafe { libc::munmap(at as *mut _, bytes) });
}

/// Moves a mapping, or changes its size; `to` counts with `MREMAP_FIXED` and `MREMAP_DONTUNMAP` only.
pub fn remap(at: usize, bytes: usize, new_bytes: usize, flags: i32, to: usize) -> usize {
    // SAFETY: the caller looks at it where it is then, and gives up what lies there.
    let address = unsafe { libc::mremap(at as *mut _, bytes, new_bytes, flags, to as *mut libc::c_void) };
    assert_ne!(
        address,
        libc::MAP_FAILED,
        "mremap: {}",
        io::Error::last_os_error()
    );
    address as usize
}

/// Changes what may be done with memory.
pub fn protect(at: usize, bytes: usize, protection: i32) {
    // SAFETY: the caller does nothing with it that it may not.
    checked("mprotect", unsafe {
        libc::mprotect(at as *mut _, bytes, protection)
    });
}

/// Advises; the answer is the kernel's.
pub fn try_advise(at: usize, bytes: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the caller knows what an advice may drop.
    match unsafe { libc::madvise(at as *mut _, bytes, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Advises.
pub fn advise(at: usize, bytes: usize, advice: i32) {
    try_advise(at, bytes, advice).unwrap_or_else(|error| panic!("madvise {advice}: {error}"));
}

/// A file in memory.
pub fn memory_file(bytes: usize) -> OwnedFd {
    // SAFETY: the name is a C string.
    let file = unsafe { libc::memfd_create(c"paths".as_ptr(), libc::MFD_CLOEXEC) };
    checked("memfd_create", file);
    resize(file, bytes);
    // SAFETY: it was just made, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(file) }
}

/// Cuts or lengthens a file.
pub fn resize(file: i32, bytes: usize) {
    let bytes = i64::try_from(bytes).expect("small");
    // SAFETY: the caller does not look at mapped pages behind the end.
    checked("ftruncate", unsafe { libc::ftruncate(file, bytes) });
}

/// Makes a hole in a file.
pub fn punch(file: i32, start: usize, bytes: usize) {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (start, bytes) = (
        i64::try_from(start).expect("small"),
        i64::try_from(bytes).expect("small"),
    );
    // SAFETY: the caller does not rely on what was there.
    checked("fallocate", unsafe { libc::fallocate(file, mode, start, bytes) });
}

/// A system call by its number, with the answer.
pub fn call(number: i64, arguments: [usize; 6]) -> io::Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller vouches for what the arguments point to.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Panics where a call failed.
pub fn checked(what: &str, answer: i32) {
    assert!(answer >= 0, "{what}: {}", io::Error::last_os_error());
}

/// CLOCK_MONOTONIC.
pub fn now() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` outlives the call.
    checked("clock_gettime", unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time)
    });
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
