//! How far a pipeline is: for a terminal, for a log, and for the daemon's metrics and API.

pub mod show;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The rate is that of the last so many seconds.
const RATE_OVER: Duration = Duration::from_secs(10);
/// How often the way is marked for that.
const MARK_EVERY: Duration = Duration::from_millis(250);

/// The stages of a pipeline, in order. One that has nothing to do stays at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Takes the archive from its writer, no faster than the rate.
    Read,
    /// Compresses it.
    Compress,
    /// Encrypts it.
    Encrypt,
    /// Writes it where it goes.
    Write,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Compress, Self::Encrypt, Self::Write];

    /// As metrics call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Compress => "compress",
            Self::Encrypt => "encrypt",
            Self::Write => "write",
        }
    }
}

/// What a stage has done.
#[derive(Debug, Default)]
struct Meter {
    bytes: AtomicU64,
    waited_ns: AtomicU64,
    blocked_ns: AtomicU64,
}

/// How far a pipeline is. One that counts, any number that look.
#[derive(Debug)]
pub struct Progress {
    begin: Instant,
    /// 0: unknown.
    total: AtomicU64,
    meters: [Meter; 4],
    marks: Mutex<VecDeque<(Instant, u64)>>, // when so much had been read
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            total: AtomicU64::new(0),
            meters: Default::default(),
            marks: Mutex::default(),
        }
    }
}

impl Progress {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How large the archive will be, before compression. Known before its first piece, it is also what the parts of a large upload are
    /// sized by.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    /// What [`Self::set_total`] said.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Relaxed)).filter(|total| *total != 0)
    }

    /// How many bytes a stage has given to the next one.
    #[must_use]
    pub fn bytes(&self, stage: Stage) -> u64 {
        self.meter(stage).bytes.load(Relaxed)
    }

    const fn meter(&self, stage: Stage) -> &Meter {
        &self.meters[stage as usize]
    }

    pub(super) fn advance(&self, stage: Stage, bytes: u64) {
        let before = self.meter(stage).bytes.fetch_add(bytes, Relaxed);
        if stage == Stage::Read {
            self.mark(before + bytes);
        }
    }

    pub(super) fn waited(&self, stage: Stage, time: Duration) {
        self.meter(stage).waited_ns.fetch_add(nanoseconds(time), Relaxed);
    }

    pub(super) fn blocked(&self, stage: Stage, time: Duration) {
        self.meter(stage).blocked_ns.fetch_add(nanoseconds(time), Relaxed);
    }

    fn mark(&self, bytes: u64) {
        let Ok(mut marks) = self.marks.lock() else { return };
        let now = Instant::now();
        if marks.back().is_some_and(|(then, _)| now - *then < MARK_EVERY) {
            return;
        }
        while marks.front().is_some_and(|(then, _)| now - *then > RATE_OVER) {
            marks.pop_front();
        }
        marks.push_back((now, bytes));
    }

    /// Bytes read per second, lately.
    fn rate(&self) -> f64 {
        let oldest = self.marks.lock().ok().and_then(|marks| marks.front().copied());
        let (begin, before) = oldest.unwrap_or((self.begin, 0));
        let bytes = self.bytes(Stage::Read).saturating_sub(before);
        bytes as f64 / begin.elapsed().as_secs_f64().max(1e-3)
    }

    /// How far it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let rate = self.rate();
        let read = self.bytes(Stage::Read);
        let total = self.total();
        let stage = |stage| {
            let meter = self.meter(stage);
            StageSnapshot {
                bytes: meter.bytes.load(Relaxed),
                waited_seconds: meter.waited_ns.load(Relaxed) as f64 / 1e9,
                blocked_seconds: meter.blocked_ns.load(Relaxed) as f64 / 1e9,
            }
        };
        Snapshot {
            read: stage(Stage::Read),
            compress: stage(Stage::Compress),
            encrypt: stage(Stage::Encrypt),
            write: stage(Stage::Write),
            total_bytes: total,
            elapsed_seconds: self.begin.elapsed().as_secs_f64(),
            rate_bytes_per_second: rate,
            remaining_seconds: total
                .filter(|_| rate >= 1.0)
                .map(|total| total.saturating_sub(read) as f64 / rate),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How far a pipeline was. Fields are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What came out of the snapshot.
    pub read: StageSnapshot,
    /// What came out of the compressor; nothing without one.
    pub compress: StageSnapshot,
    /// What came out of the encryptor; nothing without one.
    pub encrypt: StageSnapshot,
    /// What is where it goes.
    pub write: StageSnapshot,
    /// How much will be read, where that is known.
    pub total_bytes: Option<u64>,
    /// Since when it is under way.
    pub elapsed_seconds: f64,
    /// How fast it is read, over the last ten seconds.
    pub rate_bytes_per_second: f64,
    /// How long the rest takes at that rate.
    pub remaining_seconds: Option<f64>,
}

/// What a stage had done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSnapshot {
    /// Bytes that it gave to the next one.
    pub bytes: u64,
    /// How long it waited for the stage before it.
    pub waited_seconds: f64,
    /// How long it waited for the stage after it.
    pub blocked_seconds: f64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Progress, Snapshot, Stage};

    #[test]
    fn a_snapshot_says_how_far_and_how_long() {
        let progress = Progress::new();
        assert_eq!(progress.snapshot().remaining_seconds, None, "of an unknown total");
        progress.set_total(1000);
        progress.advance(Stage::Read, 250);
        progress.advance(Stage::Write, 100);
        progress.waited(Stage::Write, Duration::from_secs(2));
        progress.blocked(Stage::Read, Duration::from_secs(1));
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.read.bytes, snapshot.write.bytes), (250, 100));
        assert!((snapshot.write.waited_seconds - 2.0).abs() < 1e-9);
        assert!((snapshot.read.blocked_seconds - 1.0).abs() < 1e-9);
        assert_eq!(snapshot.total_bytes, Some(1000));
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap().read.bytes, 250);
    }
}
