//! Has a file in memory, and a mapping of it that can only be read. Says where; every line on its standard input makes it write to the
//! file, and answer with a line. The word at the begin of page `n` is `n` after no change, and one more after each.

use std::fs::File;
use std::io::BufRead as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

const PAGE: usize = 4096;
const PAGES: usize = 64;

fn main() {
    // SAFETY: the name ends with a zero.
    let file = unsafe { libc::memfd_create(c"reader".as_ptr(), 0) };
    assert!(file >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: it is ours alone.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(file) });
    write(&file, 0);
    let reading = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("it can be read");
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGES * PAGE,
            libc::PROT_READ,
            libc::MAP_SHARED,
            reading.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    println!("start {} pages {PAGES}", start as usize);
    for (change, _) in std::io::stdin().lock().lines().enumerate() {
        write(&file, change + 1);
        println!("changed {}", change + 1);
    }
}

fn write(file: &File, change: usize) {
    for page in 0..PAGES {
        let word = (page + change).to_ne_bytes();
        file.write_all_at(&word, (page * PAGE) as u64)
            .expect("there is room");
    }
}
