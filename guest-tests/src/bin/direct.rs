//! A process with a direct read under way: `direct small|huge|torn DEVICE`. A thread reads the device's first sector
//! (`O_DIRECT`) to the start of a page; a line on standard input makes the main thread write to the end of the same page. When
//! the read is done, it says what the two words are: `read WORD written WORD`.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;
const SECTOR: usize = 512;
/// In the page before anything else is.
const FIRST: u64 = 0x1111_1111_1111_1111;
/// What the main thread writes.
const WRITTEN: u64 = 0x3333_3333_3333_3333;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let page = page(&arguments[1]);
    let last = page + PAGE - 8;
    store(page, FIRST);
    store(last, FIRST);
    let device = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&arguments[2])
        .expect("the device opens");
    println!("page {page}");
    let reader = std::thread::spawn(move || {
        // SAFETY: the sector's place is mapped, and nobody else looks at it until this thread has ended.
        let got = unsafe { libc::pread(device.as_raw_fd(), page as *mut _, SECTOR, 0) };
        assert_eq!(got, 512, "{}", std::io::Error::last_os_error());
    });
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("it is told when");
    store(last, WRITTEN);
    println!("written");
    reader.join().expect("the read ends");
    println!("read {} written {}", load(page), load(last));
    loop {
        std::thread::park();
    }
}

/// A private page, written, of a kind: by itself, in a huge page, or in what is left of one.
fn page(kind: &str) -> usize {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let around = unsafe { libc::mmap(std::ptr::null_mut(), 2 * HUGE, protection, flags, -1, 0) };
    assert_ne!(around, libc::MAP_FAILED);
    let huge = (around as usize).next_multiple_of(HUGE);
    let advice = if kind == "small" {
        libc::MADV_NOHUGEPAGE
    } else {
        libc::MADV_HUGEPAGE
    };
    // SAFETY: the range is mapped, and there is nothing in it yet.
    assert_eq!(unsafe { libc::madvise(huge as *mut _, HUGE, advice) }, 0);
    for page in (huge..huge + HUGE).step_by(PAGE) {
        store(page, FIRST);
    }
    if kind == "torn" {
        // SAFETY: nobody looks at that half any more.
        assert_eq!(unsafe { libc::munmap(huge as *mut _, HUGE / 2) }, 0);
    }
    huge + HUGE - 3 * PAGE
}

fn store(address: usize, word: u64) {
    // SAFETY: the callers name mapped words that nobody else looks at meanwhile.
    unsafe { (address as *mut u64).write_volatile(word) };
}

fn load(address: usize) -> u64 {
    // SAFETY: as above.
    unsafe { (address as *const u64).read_volatile() }
}
