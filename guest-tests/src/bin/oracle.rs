//! A process whose memory is consistent at every instant, in ways that a checker can see from outside:
//!
//! - `region`: one thread writes generation after generation over all pages in order, eight words a page. At an
//!   instant the words, in order, are some of generation g followed by some of g - 1.
//! - `counters`: threads increment a counter on each of many pages, in order, under one lock. Lock free: all equal.
//!   Lock held: a prefix is one ahead.
//! - `sent`, `received`: bytes through a pipe to a child, counted before the write and after the read.
//! - `constant`: pages shared with the child by fork; `zero`: pages only ever read; `untouched`; `file`: a private
//!   mapping of a file with every other page written; `shared`: a shared anonymous region with generations of its
//!   own.
//!
//! Usage: `oracle REGION_PAGES thp|small`. Says on one line where everything is, and runs until it is killed.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the mappings are, page-aligned.
struct Memory {
    region: u64,
    pages: u64,
    counters: u64,
    shared: u64,
    /// Two words: sent, received.
    pipe: u64,
}

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
const COUNTERS: u64 = 64;
const CONSTANT: u64 = 64;
/// More than lie in the LRU's batches, whose pages look like pages in use.
const SHARED: u64 = 256;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let pages: u64 = arguments[1].parse().expect("REGION_PAGES");
    let huge = arguments[2] == "thp";
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let region = map(pages * PAGE + HUGE, private, -1).next_multiple_of(HUGE);
    // SAFETY: the range was mapped above.
    let advised = unsafe {
        let advice = if huge {
            libc::MADV_HUGEPAGE
        } else {
            libc::MADV_NOHUGEPAGE
        };
        libc::madvise(region as *mut _, size(pages * PAGE), advice)
    };
    assert_eq!(advised, 0);
    let memory = Memory {
        region,
        pages,
        counters: map((COUNTERS + 1) * PAGE, private, -1),
        shared: map(SHARED * PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
        pipe: map(PAGE, private, -1),
    };
    generation(&memory, 1); // every page is there before anybody looks
    let constant = map(CONSTANT * PAGE, private, -1);
    for word in 0..CONSTANT * 512 {
        at(constant + word * 8).store(word.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::Relaxed);
    }
    let zero = map(CONSTANT * PAGE, private, -1);
    let zeros: u64 = (0..CONSTANT)
        .map(|page| at(zero + page * PAGE).load(Ordering::Relaxed))
        .sum();
    assert_eq!(zeros, 0);
    let untouched = map(CONSTANT * PAGE, private, -1);
    let file = map_file();

    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    // SAFETY: nothing but this thread exists yet.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        drop(writer);
        // SAFETY: no memory is involved; the child ends with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let received = at(memory.pipe + 8);
        let mut byte = [0];
        loop {
            if reader.read_exact(&mut byte).is_err() {
                return; // the parent is gone
            }
            received.fetch_add(1, Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| count(&memory));
        }
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    std::thread::sleep(std::time::Duration::from_millis(7));
                }
            });
        }
        scope.spawn(|| {
            loop {
                at(memory.pipe).fetch_add(1, Ordering::SeqCst);
                writer.write_all(&[1]).expect("the child reads");
            }
        });
        scope.spawn(|| shared_generations(&memory));
        // Only now: whoever reads this may look at once, and counts the threads.
        println!(
            "region {region} pages {pages} counters {} count {COUNTERS} shared {} shared_pages {SHARED} pipe {} child {child} \
             constant {constant} constant_pages {CONSTANT} zero {zero} untouched {untouched} file {file} pid {}",
            memory.counters,
            memory.shared,
            memory.pipe,
            std::process::id(),
        );
        generations(&memory);
    });
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("64 bits")
}

fn at(address: u64) -> &'static AtomicU64 {
    // SAFETY: every address is 8-aligned and inside one of the mappings, which are never unmapped.
    unsafe { &*(address as *const AtomicU64) }
}

fn map(bytes: u64, flags: i32, file: i32) -> u64 {
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size(bytes),
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            file,
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    address as u64
}

/// A private mapping of a file of 0x11 bytes, with 0x22 written to the even pages.
fn map_file() -> u64 {
    let path = format!("/root/oracle.{}", std::process::id());
    std::fs::write(&path, vec![0x11; size(CONSTANT * PAGE)]).expect("the file can be written");
    let file = std::fs::File::open(&path).expect("and opened");
    let address = map(CONSTANT * PAGE, libc::MAP_PRIVATE, file.as_raw_fd());
    std::fs::remove_file(&path).expect("and removed");
    for page in (0..CONSTANT).step_by(2) {
        for word in 0..512 {
            at(address + page * PAGE + word * 8).store(0x2222_2222_2222_2222, Ordering::Relaxed);
        }
    }
    address
}

fn generations(memory: &Memory) {
    for number in 2.. {
        generation(memory, number);
    }
}

fn generation(memory: &Memory, number: u64) {
    for page in 0..memory.pages {
        for word in (0..512).step_by(64) {
            at(memory.region + page * PAGE + word * 8).store(number, Ordering::Relaxed);
        }
    }
}

/// Shared memory is copied, not armed: what keeps it of one instant is that nobody runs. This loop keeps everything
/// in registers, so that no armed page of its own stops it.
fn shared_generations(memory: &Memory) {
    for generation in 1.. {
        for page in 0..SHARED {
            at(memory.shared + page * PAGE).store(generation, Ordering::Relaxed);
        }
    }
}

/// The lock is the word behind the last counter's page.
fn count(memory: &Memory) {
    let lock = at(memory.counters + COUNTERS * PAGE);
    loop {
        while lock
            .compare_exchange_weak(0, 1, Ordering::SeqCst, Ordering::Relaxed)
            .is_err()
        {
            std::thread::yield_now();
        }
        for page in 0..COUNTERS {
            let counter = at(memory.counters + page * PAGE);
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
        }
        lock.store(0, Ordering::SeqCst);
    }
}
