//! Writes blocks of a file at full speed, from several threads, and keeps in memory how far each block is
//! (`guest_tests::sectors`). Usage: `sectors FILE direct|buffered|mapped BLOCKS`. Says where the counters are; answers a line on
//! standard input with what came of it so far, and the line `stop` after all threads have stopped and the file is flushed. A thread
//! whose write fails ends.

use std::fs::File;
use std::io::{BufRead as _, Error, Result, stdin};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use guest_tests::sectors::{WORDS, word};

const THREADS: u64 = 2;
const BYTES: usize = WORDS * 8;

/// Each thread flushes after so many blocks.
const FLUSH: usize = 64;

static STOP: AtomicBool = AtomicBool::new(false);
static WRITES: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static ERRNO: AtomicI32 = AtomicI32::new(0);

/// A block, where a disk may read it directly.
#[repr(align(4096))]
struct Block([u8; BYTES]);

/// How far each block is.
struct Progress {
    begun: Vec<AtomicU64>,
    written: Vec<AtomicU64>,
    flushed: Vec<AtomicU64>,
}

enum Way {
    Written(File),
    Mapped(&'static [AtomicU64]),
}

fn main() -> Result<()> {
    // As fast as they can, but no faster: a guest has two processors, and a test wants to get something done meanwhile.
    // SAFETY: no memory is involved.
    unsafe { libc::nice(15) };
    let arguments: Vec<_> = std::env::args().collect();
    let blocks: u64 = arguments[3].parse().expect("BLOCKS");
    let count = usize::try_from(blocks).expect("not that many");
    let file = create(&arguments[1], blocks)?;
    let way = match arguments[2].as_str() {
        "direct" => Way::Written(
            File::options()
                .write(true)
                .custom_flags(libc::O_DIRECT)
                .open(&arguments[1])?,
        ),
        "buffered" => Way::Written(file),
        "mapped" => Way::Mapped(map(&file, count * BYTES)?),
        other => panic!("direct, buffered or mapped, not {other}"),
    };
    let counters = || (0..count).map(|_| AtomicU64::new(1)).collect::<Vec<_>>();
    let progress = Progress {
        begun: counters(),
        written: counters(),
        flushed: counters(),
    };
    let (way, progress) = (&way, &progress);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || note(write_until_stopped(way, progress, thread))))
            .collect();
        println!(
            "pid {} blocks {blocks} begun {} written {} flushed {}",
            std::process::id(),
            progress.begun.as_ptr() as usize,
            progress.written.as_ptr() as usize,
            progress.flushed.as_ptr() as usize
        );
        let mut lines = stdin().lock().lines().map_while(Result::ok);
        while lines.next().is_some_and(|line| line != "stop") {
            say();
        }
        STOP.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().expect("it does not panic");
        }
        say();
        // Whoever asked may want to look at the counters.
        for _ in lines {
            say();
        }
    });
    Ok(())
}

fn say() {
    println!(
        "writes {} failed {} errno {}",
        WRITES.load(Ordering::SeqCst),
        FAILED.load(Ordering::SeqCst),
        ERRNO.load(Ordering::SeqCst)
    );
}

fn note(result: Result<()>) {
    if let Err(error) = result {
        ERRNO.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::SeqCst);
        FAILED.fetch_add(1, Ordering::SeqCst);
    }
}

/// The file, with sequence 1 of every block.
fn create(path: &str, blocks: u64) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let mut block = Block([0; BYTES]);
    for number in 0..blocks {
        fill(&mut block, number, 1);
        file.write_all_at(&block.0, number * BYTES as u64)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn fill(block: &mut Block, number: u64, sequence: u64) {
    for (index, bytes) in block.0.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(number, sequence, index).to_ne_bytes());
    }
}

fn map(file: &File, bytes: usize) -> Result<&'static [AtomicU64]> {
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    // SAFETY: mapped above, never unmapped, and only accessed as atomics.
    Ok(unsafe { std::slice::from_raw_parts(base.cast(), bytes / 8) })
}

/// Each thread has the blocks whose number leaves its own, divided by the number of threads.
fn write_until_stopped(way: &Way, progress: &Progress, thread: u64) -> Result<()> {
    let own = progress.begun.len() as u64 / THREADS;
    let mut block = Block([0; BYTES]);
    let mut since_flush = Vec::with_capacity(FLUSH);
    let mut random = thread + 1;
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let number = random % own * THREADS + thread;
        let at = usize::try_from(number).expect("an index");
        let sequence = progress.begun[at].fetch_add(1, Ordering::SeqCst) + 1;
        match way {
            Way::Written(file) => {
                fill(&mut block, number, sequence);
                file.write_all_at(&block.0, number * BYTES as u64)?;
            }
            Way::Mapped(words) => {
                for (index, place) in words[at * WORDS..][..WORDS].iter().enumerate() {
                    // In this order: a filesystem may freeze between any two.
                    place.store(word(number, sequence, index), Ordering::Release);
                }
            }
        }
        progress.written[at].store(sequence, Ordering::SeqCst);
        since_flush.push(at);
        WRITES.fetch_add(1, Ordering::Relaxed);
        let stop = STOP.load(Ordering::SeqCst);
        if since_flush.len() == FLUSH || stop {
            let sequences: Vec<_> = since_flush
                .drain(..)
                .map(|at| (at, progress.written[at].load(Ordering::SeqCst)))
                .collect();
            flush(way)?;
            for (at, sequence) in sequences {
                progress.flushed[at].store(sequence, Ordering::SeqCst);
            }
        }
        if stop {
            return Ok(());
        }
    }
}

fn flush(way: &Way) -> Result<()> {
    match way {
        Way::Written(file) => file.sync_data(),
        Way::Mapped(words) => {
            let bytes = size_of_val(*words);
            // SAFETY: flushes what is mapped, and changes no memory.
            let flushed = unsafe { libc::msync(words.as_ptr() as *mut _, bytes, libc::MS_SYNC) };
            if flushed == 0 {
                Ok(())
            } else {
                Err(Error::last_os_error())
            }
        }
    }
}
