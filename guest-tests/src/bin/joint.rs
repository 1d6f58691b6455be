//! The oracle of the joint instant: each of a few threads raises its counter `ahead` in memory, writes it with `O_DIRECT` to its place in a
//! file, raises its counter `behind`, and so on. At every instant, of memory and disk together: `behind` <= disk <= `ahead`.
//! Usage: `joint FILE`. Says where the counters are; answers each line of standard input with how often the first thread has written.

use std::fs::File;
use std::io::{BufRead as _, stdin};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicU64, Ordering};

const LANES: usize = 4;

static AHEAD: [AtomicU64; LANES] = [const { AtomicU64::new(0) }; LANES];
static BEHIND: [AtomicU64; LANES] = [const { AtomicU64::new(0) }; LANES];

/// A block, where a disk may read it directly.
#[repr(align(4096))]
struct Block([u8; 4096]);

fn main() {
    let path = std::env::args().nth(1).expect("FILE");
    let mut options = File::options();
    options.write(true).create(true).custom_flags(libc::O_DIRECT);
    let file = &options.open(path).expect("the file can be made");
    // No write but the first changes more than the data of the file.
    for lane in 0..LANES {
        file.write_all_at(&Block([0; 4096]).0, lane as u64 * 4096)
            .expect("and written");
    }
    file.sync_all().expect("and flushed");
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || write(file, lane));
        }
        println!(
            "pid {} lanes {LANES} ahead {} behind {}",
            std::process::id(),
            AHEAD.as_ptr() as usize,
            BEHIND.as_ptr() as usize
        );
        for _ in stdin().lock().lines() {
            println!("{}", BEHIND[0].load(Ordering::SeqCst));
        }
    });
}

fn write(file: &File, lane: usize) {
    let mut block = Block([0; 4096]);
    for number in 1_u64.. {
        AHEAD[lane].store(number, Ordering::SeqCst);
        block.0[..8].copy_from_slice(&number.to_ne_bytes());
        file.write_all_at(&block.0, lane as u64 * 4096)
            .expect("the disk takes it");
        BEHIND[lane].store(number, Ordering::SeqCst);
    }
}
