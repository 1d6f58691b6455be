//! A process whose memory the kernel likes to move about, and whose every word is known at every instant
//! (`guest_tests::drift`):
//!
//! - `busy` is written over and over, page after page;
//! - `cold` is written once, and read now and then: it goes to swap and comes back;
//! - `same` and `twins` are the like for KSM: every page is equal to every other;
//! - `torn` is of huge pages, as far as the kernel likes. Parts of it are given back and written anew, protected, and
//!   collapsed.
//!
//! Whoever writes a page looks first whether it is as it was left. Says on one line where everything is, and answers each
//! line of its standard input; `grow` maps a page more. Where it finds anything wrong, it says so and ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use guest_tests::drift::{REGIONS, STATE, TORN, WORDS, word};

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
const COLLAPSE: i32 = 25; // 6.1

fn main() {
    let state = map(PAGE);
    let memory = Memory {
        state,
        starts: REGIONS.each_ref().map(|region| map(region.pages * PAGE)),
    };
    for (region, kind) in REGIONS.iter().enumerate() {
        let advice = match region {
            TORN => libc::MADV_HUGEPAGE,
            _ if kind.same => libc::MADV_MERGEABLE,
            _ => libc::MADV_NOHUGEPAGE,
        };
        memory
            .advise(region, 0, kind.pages, advice)
            .expect("it is advised");
        memory.state(region, 0).store(1, Ordering::SeqCst);
        for page in 0..kind.pages {
            memory.write(region, page, 1);
        }
    }
    let places: Vec<_> = REGIONS
        .iter()
        .zip(memory.starts)
        .map(|(region, start)| format!("{} {start}", region.name))
        .collect();
    println!("state {state} {}", places.join(" "));
    std::thread::scope(|scope| {
        for (region, kind) in REGIONS.iter().enumerate() {
            let memory = &memory;
            match region {
                TORN => scope.spawn(move || memory.tear()),
                _ if kind.hot => scope.spawn(move || memory.renew(region)),
                _ => scope.spawn(move || memory.look(region)),
            };
        }
        for line in std::io::stdin().lines() {
            if line.expect("standard input is text") == "grow" {
                let start = map(PAGE);
                at(start).store(start, Ordering::SeqCst);
                println!("{start}");
            } else {
                println!("right");
            }
        }
        std::process::exit(0);
    });
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("64 bits")
}

/// Private memory at a multiple of a huge page, with nothing mapped beside it.
fn map(bytes: u64) -> u64 {
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size(bytes + 2 * HUGE),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    (address as u64 + 1).next_multiple_of(HUGE)
}

fn at(address: u64) -> &'static AtomicU64 {
    // SAFETY: every address is 8-aligned and inside one of the mappings, which are never unmapped.
    unsafe { &*(address as *const AtomicU64) }
}

struct Memory {
    state: u64,
    starts: [u64; REGIONS.len()],
}

impl Memory {
    /// 0: the generation that is being written; 1: the pages that are given back and written anew.
    fn state(&self, region: usize, number: u64) -> &'static AtomicU64 {
        at(self.state + (region as u64 * STATE + number) * 8)
    }

    fn page(&self, region: usize, page: u64) -> u64 {
        self.starts[region] + page * PAGE
    }

    fn write(&self, region: usize, page: u64, generation: u64) {
        let start = self.page(region, page);
        for index in 0..WORDS {
            let value = word(region, generation, page * WORDS + index);
            at(start + index * 8).store(value, Ordering::Relaxed);
        }
    }

    fn check(&self, region: usize, page: u64, generation: u64) {
        let start = self.page(region, page);
        for index in 0..WORDS {
            let (expected, found) = (
                word(region, generation, page * WORDS + index),
                at(start + index * 8).load(Ordering::Relaxed),
            );
            if expected != found {
                let name = REGIONS[region].name;
                eprintln!("drift: {name}: word {index} of page {page} is {found:#x}, not {expected:#x}");
                std::process::abort();
            }
        }
    }

    /// The next generation.
    fn generation(&self, region: usize) -> u64 {
        let generation = self.state(region, 0).fetch_add(1, Ordering::SeqCst) + 1;
        for page in 0..REGIONS[region].pages {
            self.check(region, page, generation - 1);
            self.write(region, page, generation);
        }
        generation
    }

    fn renew(&self, region: usize) {
        loop {
            self.generation(region);
            if REGIONS[region].same {
                // KSM merges what it found unchanged twice.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn look(&self, region: usize) {
        loop {
            for page in 0..REGIONS[region].pages {
                self.check(region, page, 1);
                if page % 64 == 63 {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn tear(&self) {
        let huge = HUGE / PAGE;
        loop {
            let generation = self.generation(TORN);
            let first = generation % 7 * 100;
            match generation % 4 {
                0 => self.give_back(first, first + 300, generation),
                1 => self.give_back(huge, 2 * huge, generation),
                2 => self.protect(first + 50, first + 350),
                _ => (0..REGIONS[TORN].pages / huge).for_each(|number| {
                    // It may find no huge page, or somebody who holds one of its pages.
                    let _ = self.advise(TORN, number * huge, huge, COLLAPSE);
                }),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn give_back(&self, first: u64, end: u64, generation: u64) {
        self.state(TORN, 1).store(first << 32 | end, Ordering::SeqCst);
        self.advise(TORN, first, end - first, libc::MADV_DONTNEED)
            .expect("it is given back");
        for page in first..end {
            self.write(TORN, page, generation);
        }
        self.state(TORN, 1).store(0, Ordering::SeqCst);
    }

    fn protect(&self, first: u64, end: u64) {
        for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            let start = self.page(TORN, first) as *mut _;
            // SAFETY: the range is a mapping of ours, and only this thread writes to it.
            let protected = unsafe { libc::mprotect(start, size((end - first) * PAGE), protection) };
            assert_eq!(protected, 0, "{}", std::io::Error::last_os_error());
        }
    }

    fn advise(&self, region: usize, first: u64, pages: u64, advice: i32) -> std::io::Result<()> {
        let start = self.page(region, first) as *mut _;
        // SAFETY: the range is a mapping of ours, and what is given back is written before anybody reads it.
        match unsafe { libc::madvise(start, size(pages * PAGE), advice) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}
