//! An io_uring for one request at a time.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::memory::{load, store};
use crate::sys;

/// `struct io_uring_params` in words, and where in it the offsets of the rings lie.
const PARAMETERS: usize = 30;
const SUBMISSION: usize = 10;
const COMPLETION: usize = 20;
/// `IORING_OFF_SQES`.
const REQUESTS: i64 = 0x1000_0000;

pub struct Ring {
    file: OwnedFd,
    rings: usize,
    request: usize,
    parameters: [u32; PARAMETERS],
}

impl Ring {
    pub fn new() -> Self {
        let mut parameters = [0; PARAMETERS];
        let made = sys::call(
            libc::SYS_io_uring_setup,
            [1, parameters.as_mut_ptr() as usize, 0, 0, 0, 0],
        )
        .expect("io_uring_setup");
        // SAFETY: it was just made, and nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(i32::try_from(made).expect("a descriptor")) };
        Self {
            rings: map(&file, 0),
            request: map(&file, REQUESTS),
            file,
            parameters,
        }
    }

    /// `IORING_REGISTER_BUFFERS`: one, pinned for as long as the ring lives.
    pub fn register(&self, address: usize, bytes: usize) {
        let buffer = libc::iovec {
            iov_base: address as *mut _,
            iov_len: bytes,
        };
        sys::call(
            libc::SYS_io_uring_register,
            [self.descriptor(), 0, &raw const buffer as usize, 1, 0, 0],
        )
        .expect("io_uring_register");
    }

    fn descriptor(&self) -> usize {
        usize::try_from(self.file.as_raw_fd()).expect("a descriptor")
    }

    /// A word of the rings; `at` is the index of its offset in the parameters.
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: aligned, and in the mapping, which is never unmapped.
        unsafe { &*((self.rings + self.parameters[at] as usize) as *const AtomicU32) }
    }

    /// `IORING_OP_READ_FIXED` from the start of a file to the registered buffer, to its end.
    pub fn read_fixed(&self, file: i32, address: usize, bytes: usize) {
        const READ_FIXED: usize = 4;
        let descriptor = usize::try_from(file).expect("a descriptor");
        // The request is eight words: operation and file, offset, address, length, and zeros.
        let request = [READ_FIXED | descriptor << 32, 0, address, bytes, 0, 0, 0, 0];
        for (index, word) in request.into_iter().enumerate() {
            store(self.request + index * 8, word);
        }
        let (head, tail, array) = (COMPLETION, SUBMISSION + 1, SUBMISSION + 6);
        self.word(array).store(0, Ordering::Relaxed);
        self.word(tail).fetch_add(1, Ordering::Release);
        let done = sys::call(
            libc::SYS_io_uring_enter,
            [self.descriptor(), 1, 1, 1 /* GETEVENTS */, 0, 0],
        );
        assert_eq!(done.expect("io_uring_enter"), 1);
        let completions = self.rings + self.parameters[COMPLETION + 5] as usize;
        let index =
            self.word(head).load(Ordering::Acquire) & self.word(COMPLETION + 2).load(Ordering::Relaxed);
        let result = load(completions + index as usize * 16 + 8) & 0xffff_ffff;
        assert_eq!(result, bytes, "all of it is read");
        self.word(head).fetch_add(1, Ordering::Release);
    }
}

fn map(file: &OwnedFd, offset: i64) -> usize {
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            sys::OPEN,
            flags,
            file.as_raw_fd(),
            offset,
        )
    };
    assert_ne!(
        address,
        libc::MAP_FAILED,
        "the ring: {}",
        std::io::Error::last_os_error()
    );
    address as usize
}
