//! The board of a `hoard`: a file that it and its driver both map. The driver raises a flag there, the hoard leaves
//! what it measured, without a system call in between.
//!
//! The file lies in a ramfs: mapped shared, it is neither armed nor copied by a snapshot nor by `fork()`, and nothing
//! writes it back. So writing a measurement down never faults, and never shows among the measurements.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 4096;
const WORDS_PER_PAGE: usize = PAGE / 8;

/// How many entries are kept: the newest.
const CAPACITY: usize = 1 << 20;

const STOP: usize = 0;
const STARTED: usize = 1;
const COUNT: usize = 2;

/// The mapped file.
pub struct Board {
    words: &'static [AtomicU64],
}

impl Board {
    /// Makes a new file, for a hoard to open.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn create(path: &Path) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .expect("the board can be made");
        file.set_len((Self::words() * 8) as u64).expect("and sized");
        Self::map(&file)
    }

    /// Opens the driver's file.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path);
        Self::map(&file.expect("the driver made the board"))
    }

    const fn words() -> usize {
        WORDS_PER_PAGE + CAPACITY * 2
    }

    fn map(file: &File) -> Self {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::words() * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        // SAFETY: mapped above, never unmapped, and both sides use atomics only.
        let words = unsafe { std::slice::from_raw_parts(base.cast(), Self::words()) };
        Self { words }
    }

    /// Writes every page, so that no later write faults, and lowers the flags.
    pub fn touch(&self) {
        for word in self.words.iter().step_by(WORDS_PER_PAGE) {
            word.store(0, Ordering::Relaxed);
        }
        self.words[STARTED].store(0, Ordering::SeqCst);
        self.words[STOP].store(0, Ordering::SeqCst);
    }

    /// The driver's: asks the hoard to come back to its commands.
    pub fn stop(&self) {
        self.words[STOP].store(1, Ordering::SeqCst);
    }

    /// The hoard's: whether it is asked to.
    #[must_use]
    #[inline]
    pub fn stopped(&self) -> bool {
        self.words[STOP].load(Ordering::Relaxed) != 0
    }

    /// The hoard's: the measurement runs.
    pub fn start(&self) {
        self.words[STARTED].store(1, Ordering::SeqCst);
    }

    /// The driver's: whether it does.
    #[must_use]
    pub fn started(&self) -> bool {
        self.words[STARTED].load(Ordering::SeqCst) != 0
    }

    /// Notes something that began and how long it took, as number `index`.
    #[inline]
    pub fn note(&self, index: usize, begin: u64, length: u64) {
        let at = WORDS_PER_PAGE + (index & (CAPACITY - 1)) * 2;
        self.words[at].store(begin, Ordering::Relaxed);
        self.words[at + 1].store(length, Ordering::Relaxed);
    }

    /// Says how many notes there are in all.
    pub fn finish(&self, count: usize) {
        self.words[COUNT].store(count as u64, Ordering::SeqCst);
    }

    /// The notes that are kept, oldest first.
    ///
    /// # Panics
    ///
    /// Never: the count fits.
    #[must_use]
    pub fn notes(&self) -> Vec<(u64, u64)> {
        let count = usize::try_from(self.words[COUNT].load(Ordering::SeqCst)).expect("64 bits");
        (count.saturating_sub(CAPACITY)..count)
            .map(|index| {
                let at = WORDS_PER_PAGE + (index & (CAPACITY - 1)) * 2;
                let word = |at: usize| self.words[at].load(Ordering::Relaxed);
                (word(at), word(at + 1))
            })
            .collect()
    }
}
