//! A process whose memory is like that of others: `cargo xtask bench drain` makes images of it.
//!
//! Usage: `larder MIB small|huge`. Every other page is text, which compresses, and those in between are random, and do not. Each line of
//! standard input is a command, and is answered with a line of names and numbers:
//!
//! - `change PAGES evenly|together`: gives so many pages new content of their kind, all over the memory or side by side.
//! - `write regions|middle PER_SECOND`: begins to write to a quarter of the pages, in any order and over and over: those of every fourth
//!   region of 2 MiB, or those in the middle.
//! - `stop`: ends that, and says how many writes it were.

use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;

/// How many words the text is made of.
const WORDS: u64 = 1024;

/// How long the writer rests between two bursts.
const REST: Duration = Duration::from_millis(5);

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let pages = arguments[1].parse::<usize>().expect("a number") * 256;
    // A session of its own: criu dumps whole ones.
    // SAFETY: no memory is involved.
    unsafe { libc::setsid() };
    let mut larder = Larder::new(pages, arguments[2] == "huge");
    (0..pages).for_each(|page| larder.fill(page));
    println!("base {} pages {pages}", larder.base);
    let mut writer = None;
    for command in std::io::stdin().lock().lines() {
        let command = command.expect("the driver speaks UTF-8");
        let words: Vec<_> = command.split(' ').collect();
        let number = |index: usize| words[index].parse::<usize>().expect("a number");
        match words[0] {
            "change" => {
                // Evenly, of both kinds.
                let page = |index| match words[2] {
                    "evenly" => index * (pages / number(1)) + index % 2,
                    _ => index,
                };
                (0..number(1)).map(page).for_each(|page| larder.fill(page));
                println!("changed {}", number(1));
            }
            "write" => {
                let hot = larder.hot(words[1]);
                writer = Some(Writer::start(larder.base, hot, number(2)));
                println!("writes 1");
            }
            "stop" => println!("written {}", writer.take().map_or(0, Writer::stop)),
            other => panic!("{other}"),
        }
    }
}

/// Numbers that nobody foresees, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// The memory.
struct Larder {
    base: usize,
    pages: usize,
    dice: Dice,
    words: Vec<Vec<u8>>,
}

impl Larder {
    fn new(pages: usize, huge: bool) -> Self {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages * PAGE + HUGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED);
        let base = (address as usize).next_multiple_of(HUGE);
        let advice = if huge {
            libc::MADV_HUGEPAGE
        } else {
            libc::MADV_NOHUGEPAGE
        };
        // SAFETY: within the mapping, and nothing is in it yet.
        let advised = unsafe { libc::madvise(base as *mut _, pages * PAGE, advice) };
        assert_eq!(advised, 0, "{}", std::io::Error::last_os_error());
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let words = (0..WORDS).map(|_| word(&mut dice)).collect();
        Self {
            base,
            pages,
            dice,
            words,
        }
    }

    /// New content of its kind.
    fn fill(&mut self, page: usize) {
        let mut content = [0; PAGE];
        if page.is_multiple_of(2) {
            self.text(&mut content);
        } else {
            for word in content.chunks_exact_mut(8) {
                word.copy_from_slice(&self.dice.roll().to_ne_bytes());
            }
        }
        // SAFETY: a whole page inside the mapping, to which nobody else writes meanwhile.
        unsafe {
            std::ptr::copy_nonoverlapping(content.as_ptr(), (self.base + page * PAGE) as *mut u8, PAGE);
        }
    }

    /// Words, of which some are more usual than others.
    fn text(&mut self, content: &mut [u8]) {
        let mut at = 0;
        while at < content.len() {
            let roll = self.dice.roll();
            let word = &self.words[usize::try_from(roll & (roll >> 20) & (WORDS - 1)).expect("small")];
            let length = word.len().min(content.len() - at);
            content[at..at + length].copy_from_slice(&word[..length]);
            at += length;
        }
    }

    /// A quarter of the pages.
    fn hot(&self, which: &str) -> Vec<u32> {
        let regions = |page: &usize| (page * PAGE / HUGE) % 4 == 1;
        let middle = |page: &usize| (self.pages * 3 / 8..self.pages * 5 / 8).contains(page);
        (0..self.pages)
            .filter(|page| match which {
                "regions" => regions(page),
                _ => middle(page),
            })
            .map(|page| u32::try_from(page).expect("small"))
            .collect()
    }
}

/// A word, and the blank behind it.
fn word(dice: &mut Dice) -> Vec<u8> {
    let length = 2 + dice.roll() % 8;
    let letters = (0..length).map(|_| b'a' + u8::try_from(dice.roll() % 26).expect("small"));
    letters.chain([b' ']).collect()
}

/// The thread that writes.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Writer {
    fn start(base: usize, hot: Vec<u32>, per_second: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            let (mut dice, mut written) = (Dice(1), 0);
            while !until.load(Ordering::Relaxed) {
                let due = begin.elapsed().as_micros() * per_second as u128 / 1_000_000;
                while u128::from(written) < due {
                    let any = usize::try_from(dice.roll() >> 33).expect("31 bits") % hot.len();
                    let page = base + hot[any] as usize * PAGE;
                    // SAFETY: aligned, and inside the mapping, which is never unmapped.
                    unsafe { &*(page as *const AtomicU64) }.store(written, Ordering::Relaxed);
                    written += 1;
                }
                thread::sleep(REST);
            }
            written
        });
        Self { stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it writes")
    }
}
