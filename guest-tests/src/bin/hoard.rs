//! A process with much memory that measures what happens to it: `cargo xtask bench window` snapshots and forks it.
//!
//! Usage: `hoard MIB small|huge|shared THREADS SPINNING BOARD`. Of its threads, `SPINNING` are always busy, the main one takes
//! commands, and the others sleep in the kernel. Each line of standard input is a command, and is answered with a line of
//! names and numbers:
//!
//! - `renew`: writes every page.
//! - `afresh`: gives the memory back before, and gets new memory: a huge page that was written while it was shared is
//!   huge no more.
//! - `fork`: forks, and says how long that took the parent. The child stays until `reap`.
//! - `spin`: reads the processor's counter over and over, and notes every gap; until the board says stop.
//! - `write`: writes page after page, every seventh, and notes each write; until the board says stop.
//! - `forkwrite`: `fork`, then `write`.
//!
//! While it measures it calls nothing and keeps what it needs in registers: after a snapshot a write to its own stack
//! would be a page fault like any other.

use std::io::BufRead as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use guest_tests::board::Board;
use guest_tests::ticks::{Moment, Scale, ticks};

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;

/// Every seventh page: no two writes in a row find a neighbour. Sizes are powers of two, so all pages get their turn.
const STRIDE: usize = 7;

/// Gaps below are not worth a note.
const GAP_NS: u64 = 5_000;

/// Pause between two writes.
const PAUSE_NS: u64 = 5_000;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let count = |index: usize| arguments[index].parse::<usize>().expect("a number");
    let (pages, threads, spinning) = (count(1) * 256, count(3), count(4));
    let board = Board::open(Path::new(&arguments[5]));
    // A session of its own: criu dumps whole ones.
    // SAFETY: no memory is involved.
    unsafe { libc::setsid() };
    let hoard = Hoard::new(pages, &arguments[2]);
    hoard.renew();
    for number in 1..threads {
        thread::spawn(move || {
            loop {
                if number <= spinning {
                    // No `pause`, which an emulator takes for an invitation to stop.
                    std::hint::black_box(number);
                } else {
                    thread::sleep(Duration::from_secs(3600));
                }
            }
        });
    }
    let scale = calibrate();
    println!("pages {pages}");
    for command in std::io::stdin().lock().lines() {
        let answer = match command.expect("the driver speaks UTF-8").as_str() {
            "renew" => {
                hoard.renew();
                "renewed 1".to_owned()
            }
            "fork" => fork(&scale).said(),
            "afresh" => {
                hoard.advise(libc::MADV_DONTNEED);
                hoard.renew();
                "renewed 1".to_owned()
            }
            "reap" => {
                reap();
                "reaped 1".to_owned()
            }
            "spin" => measured(&board, || spin(&board, scale_ticks(&scale, GAP_NS))),
            "write" => measured(&board, || hoard.write(&board, scale_ticks(&scale, PAUSE_NS))),
            "forkwrite" => {
                let mut forked = Forked::default();
                let said = measured(&board, || {
                    forked = fork(&scale);
                    hoard.write(&board, scale_ticks(&scale, PAUSE_NS))
                });
                format!("{said} {}", forked.said())
            }
            other => panic!("{other}"),
        };
        println!("{answer}");
    }
}

/// What the counter counts in this machine.
fn calibrate() -> Scale {
    let from = Moment::now();
    thread::sleep(Duration::from_millis(100));
    Scale::new(from, Moment::now())
}

/// The ticks of a time.
fn scale_ticks(scale: &Scale, ns: u64) -> u64 {
    ns * 1_000_000 / scale.length(1_000_000).max(1)
}

/// Measures, and says between which moments.
fn measured(board: &Board, measure: impl FnOnce() -> usize) -> String {
    let from = Moment::now();
    board.start();
    board.finish(measure());
    let to = Moment::now();
    format!(
        "from_ticks {} from_ns {} to_ticks {} to_ns {}",
        from.ticks, from.ns, to.ticks, to.ns
    )
}

/// Notes each gap between two readings that is longer than `least`.
fn spin(board: &Board, least: u64) -> usize {
    let (mut count, mut last) = (0, ticks());
    while !board.stopped() {
        let now = ticks();
        if now - last > least {
            board.note(count, last, now - last);
            count += 1;
        }
        last = now;
    }
    count
}

/// A fork, as the parent saw it.
#[derive(Default)]
struct Forked {
    ns: u64,
    after: u64,
}

impl Forked {
    fn said(&self) -> String {
        format!("fork_ns {} after_ticks {}", self.ns, self.after)
    }
}

/// Forks a child that stays. Nothing but the call is timed: libc's own work around it is not, nor the page faults that
/// follow.
fn fork(scale: &Scale) -> Forked {
    let before = ticks();
    // SAFETY: the child calls nothing but the kernel.
    let child = unsafe { libc::syscall(libc::SYS_fork) };
    let after = ticks();
    if child == 0 {
        // SAFETY: no memory is involved; the child ends with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: waits for the signal that ends it.
            unsafe { libc::pause() };
        }
    }
    assert!(child > 0, "{}", std::io::Error::last_os_error());
    CHILD.store(child.unsigned_abs(), Ordering::Relaxed);
    Forked {
        ns: scale.length(after - before),
        after,
    }
}

static CHILD: AtomicU64 = AtomicU64::new(0);

fn reap() {
    let child = i32::try_from(CHILD.load(Ordering::Relaxed)).expect("pids are small");
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    // SAFETY: no status is asked for.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
}

/// The memory.
struct Hoard {
    base: usize,
    pages: usize,
}

impl Hoard {
    fn new(pages: usize, kind: &str) -> Self {
        let sharing = if kind == "shared" {
            libc::MAP_SHARED
        } else {
            libc::MAP_PRIVATE
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages * PAGE + HUGE,
                libc::PROT_READ | libc::PROT_WRITE,
                sharing | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED);
        let base = (address as usize).next_multiple_of(HUGE);
        let hoard = Self { base, pages };
        hoard.advise(if kind == "huge" {
            libc::MADV_HUGEPAGE
        } else {
            libc::MADV_NOHUGEPAGE
        });
        hoard
    }

    fn advise(&self, advice: i32) {
        // SAFETY: within the mapping; what is given back is written again before anybody reads it.
        let result = unsafe { libc::madvise(self.base as *mut _, self.pages * PAGE, advice) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    #[inline]
    fn page(&self, index: usize) -> &'static AtomicU64 {
        // SAFETY: aligned, and inside the mapping, which is never unmapped.
        unsafe { &*((self.base + index * PAGE) as *const AtomicU64) }
    }

    fn renew(&self) {
        for index in 0..self.pages {
            self.page(index).store(index as u64 + 1, Ordering::Relaxed);
        }
    }

    /// Writes pages in turn and notes each write.
    fn write(&self, board: &Board, pause: u64) -> usize {
        let (mut count, mut index) = (0, 0);
        while !board.stopped() {
            let before = ticks();
            self.page(index).store(before, Ordering::SeqCst);
            let after = ticks();
            board.note(count, before, after - before);
            count += 1;
            index += STRIDE;
            if index >= self.pages {
                index -= self.pages;
            }
            while ticks() - after < pause {}
        }
        count
    }
}
