//! What the kernel writes to the memory on the process's behalf, and what it reads from it without a copy.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::memory::{Content, Memory, PAGE, ZERO};
use crate::ring::Ring;
use crate::{Action, sys};

/// What files and devices hold.
const BYTE: u8 = 0x5a;
/// Where it goes.
const FIRST: usize = 100;
const LAST: usize = 400;

fn source() -> File {
    let mut file = File::from(sys::memory_file(0));
    file.write_all(&vec![BYTE; (LAST - FIRST) * PAGE])
        .expect("there is room");
    file.rewind().expect("it has a start");
    file
}

/// read(2) to pages of the memory.
fn read_to(memory: &mut Memory, file: i32, first: usize, last: usize, content: Content) {
    let bytes = (last - first) * PAGE;
    // SAFETY: the pages are mapped, and nobody else looks at them meanwhile.
    let got = unsafe { libc::read(file, memory.at(first) as *mut _, bytes) };
    assert_eq!(
        got.unsigned_abs(),
        bytes,
        "read: {got} {}",
        std::io::Error::last_os_error()
    );
    memory.note_all(&memory.span(first, last), content);
}

pub fn read_file(memory: &mut Memory) {
    read_to(memory, source().as_raw_fd(), FIRST, LAST, Content::Byte(BYTE));
}

pub fn read_pipe(memory: &mut Memory) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    for first in (FIRST..LAST).step_by(10) {
        writer.write_all(&[BYTE; 10 * PAGE]).expect("it holds that much");
        read_to(memory, reader.as_raw_fd(), first, first + 10, Content::Byte(BYTE));
    }
}

pub fn read_zeros(memory: &mut Memory) {
    let zeros = File::open("/dev/zero").expect("it is there");
    read_to(memory, zeros.as_raw_fd(), FIRST, LAST, ZERO);
}

/// A device writes to the memory, past the page tables.
pub fn read_direct(device: &str) -> Action {
    let device = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .expect("the device opens");
    Box::new(move |memory| read_to(memory, device.as_raw_fd(), FIRST, LAST, Content::Byte(BYTE)))
}

/// Pages lie in a pipe when they are written. As after fork(), the pipe may keep what was.
pub fn vmsplice(memory: &mut Memory) {
    const COUNT: usize = 256;
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let size = i32::try_from(COUNT * PAGE).expect("small");
    // SAFETY: no memory is involved.
    sys::checked("F_SETPIPE_SZ", unsafe {
        libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, size)
    });
    let pages = libc::iovec {
        iov_base: memory.at(FIRST) as *mut _,
        iov_len: COUNT * PAGE,
    };
    // SAFETY: `pages` outlives the call.
    let given = unsafe { libc::vmsplice(writer.as_raw_fd(), &raw const pages, 1, 0) };
    assert_eq!(
        given.unsigned_abs(),
        COUNT * PAGE,
        "{}",
        std::io::Error::last_os_error()
    );
    let before = memory.copies(FIRST, FIRST + COUNT);
    memory.write(&memory.span(FIRST, FIRST + COUNT));
    let after = memory.copies(FIRST, FIRST + COUNT);
    let mut got = vec![0; PAGE];
    for (before, after) in before.iter().zip(&after) {
        reader.read_exact(&mut got).expect("all of it is there");
        assert!(got == *before || got == *after, "the pipe holds one or the other");
    }
}

/// Reads to buffers that were pinned before anything else.
pub fn read_fixed(memory: &mut Memory) -> Action {
    let ring = Ring::new();
    ring.register(memory.at(FIRST), (LAST - FIRST) * PAGE);
    Box::new(move |memory| read_by(&ring, memory))
}

/// Pins buffers, and reads to them.
pub fn register_and_read(memory: &mut Memory) {
    let ring = Ring::new();
    ring.register(memory.at(FIRST), (LAST - FIRST) * PAGE);
    read_by(&ring, memory);
    // It stays, and the pages pinned.
    std::mem::forget(ring);
}

fn read_by(ring: &Ring, memory: &mut Memory) {
    let file = OwnedFd::from(source());
    ring.read_fixed(file.as_raw_fd(), memory.at(FIRST), (LAST - FIRST) * PAGE);
    memory.note_all(&memory.span(FIRST, LAST), Content::Byte(BYTE));
}
