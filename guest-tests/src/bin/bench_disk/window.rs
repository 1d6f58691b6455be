//! How long writers stand still: our take beside what one does by hand.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use guest_tests::disk::base::lvm;
use guest_tests::disk::fs::Mount;
use guest_tests::disk::snapshot::What;
use guest_tests::sh;
use serde_json::json;

use crate::Bench;

/// How long the writer runs before and after.
const MARGIN: Duration = Duration::from_millis(300);

/// Who writes meanwhile.
#[derive(Clone, Copy)]
pub enum Load {
    /// One block at a time, past the page cache: nothing is dirty.
    Direct,
    /// Into the page cache, as fast as that goes: there is always something to write back.
    Buffered,
}

impl Load {
    /// Its name in the samples.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        }
    }
}

/// A writer that notes the longest of its writes.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

/// Memory as `O_DIRECT` wants it.
#[repr(align(4096))]
struct Block([u8; 4096]);

impl Writer {
    /// Writes for a while before it returns.
    pub fn start(mount: &Mount, load: Load) -> Self {
        // What another load left dirty is not this one's.
        sh(&format!("sync -f {}", mount.dir));
        let stop = Arc::new(AtomicBool::new(false));
        let flags = match load {
            Load::Direct => libc::O_DIRECT,
            Load::Buffered => 0,
        };
        let file = File::options()
            .write(true)
            .create(true)
            .custom_flags(flags)
            .open(mount.path(load.name()))
            .expect("the filesystem takes a file");
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let block = Box::new(Block([7; 4096]));
            let mut longest = Duration::ZERO;
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                let begin = Instant::now();
                file.write_all_at(&block.0, number % 8192 * 4096)
                    .expect("the filesystem takes writes");
                longest = longest.max(begin.elapsed());
                number += 1;
            }
            longest
        });
        sleep(MARGIN);
        Self { stop, thread }
    }

    /// Writes for a while more; returns the longest of its writes.
    pub fn stop(self) -> Duration {
        sleep(MARGIN);
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends")
    }
}

/// In nanoseconds.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Each method once a round, each under both loads.
pub fn measure(bench: &mut Bench, rounds: usize) {
    for round in 0..rounds {
        for load in [Load::Direct, Load::Buffered] {
            ours(bench, load, round);
            by_hand(bench, load, round);
            alone(bench, load, round);
        }
    }
}

fn ours(bench: &mut Bench, load: Load, round: usize) {
    let writer = Writer::start(&bench.ours, load);
    let what = What {
        mounts: vec![&bench.ours.dir],
        store: &bench.store,
        ..What::default()
    };
    let snapshot = what.take();
    let gap = writer.stop();
    let disk = &snapshot.report["disk"];
    let sample = json!({
        "method": "freezeframe", "fs": bench.kind.name(), "load": load.name(), "round": round,
        "window_ns": disk["write_window_ns"], "gap_ns": ns(gap), "disk": disk,
    });
    bench.out.sample("window", &sample);
    snapshot.commit();
}

fn by_hand(bench: &mut Bench, load: Load, round: usize) {
    let writer = Writer::start(&bench.by_hand, load);
    let begin = Instant::now();
    sh(&format!("fsfreeze -f {}", bench.by_hand.dir));
    lvm("lvcreate -q -y -s -L 500M -c 4k -n snap vg/hand");
    sh(&format!("fsfreeze -u {}", bench.by_hand.dir));
    theirs(bench, load, round, "fsfreeze+lvcreate", begin.elapsed(), writer);
    lvm("lvremove -q -y vg/snap");
}

/// As LVM does it by itself.
fn alone(bench: &mut Bench, load: Load, round: usize) {
    let writer = Writer::start(&bench.theirs, load);
    let begin = Instant::now();
    lvm("lvcreate -q -y -s -L 500M -c 4k -n snap vg/volume");
    theirs(bench, load, round, "lvcreate alone", begin.elapsed(), writer);
    lvm("lvremove -q -y vg/snap");
}

fn theirs(bench: &mut Bench, load: Load, round: usize, method: &str, window: Duration, writer: Writer) {
    let gap = writer.stop();
    let sample = json!({
        "method": method, "fs": bench.kind.name(), "load": load.name(), "round": round,
        "window_ns": ns(window), "gap_ns": ns(gap),
    });
    bench.out.sample("window", &sample);
}
