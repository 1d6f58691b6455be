//! The stores of active snapshots, watched: how full they are, how long they will last, and when somebody should be told.
//!
//! All of it is read from the device mapper. The stores' own records are on disks that would have to be searched.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use crate::disk::blockdev::{self, Devno, SECTOR};
use crate::disk::dm::{Dm, DmError, SnapshotStatus};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::record::{DmIdentity, TableLine, full_store_sectors};

/// The rate is that of the last readings, or the mean over this time, whichever is higher: writers come in bursts.
const RATE_OVER: Duration = Duration::from_secs(30);

/// Readings that are less apart tell of no rate.
const RATE_FROM: Duration = Duration::from_millis(900);

/// How one slice of a store is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The snapshot's ID.
    pub snapshot: String,
    /// The dm name of the top that runs on it.
    pub top: String,
    /// The slice's own device.
    pub slice: Devno,
    /// What it holds, its metadata included.
    pub used_bytes: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Whether more may be written than it takes.
    pub can_overflow: bool,
    /// Whether it takes no more: full, or failed.
    pub overflowed: bool,
}

/// The slices that some top runs on. Where there is no snapshot, this is a look into sysfs.
///
/// # Errors
///
/// When the device mapper does not answer.
pub fn readings() -> Result<Vec<Reading>, DiskError> {
    let slices = slices()?;
    if slices.is_empty() {
        return Ok(Vec::new());
    }
    let dm = Dm::open()?;
    let mut readings = Vec::new();
    for (slice, snapshot) in slices {
        for top in blockdev::holders(slice).into_iter().filter_map(blockdev::dm_name) {
            match reading(&dm, &snapshot, slice, &top) {
                Ok(reading) => readings.extend(reading),
                Err(DmError::Missing(_)) => {} // it went away meanwhile
                Err(error) => return Err(error.into()),
            }
        }
    }
    readings.sort_by(|one, other| (&one.snapshot, &one.top).cmp(&(&other.snapshot, &other.top)));
    Ok(readings)
}

/// Whether a device is a slice of a store, in use or not.
#[must_use]
pub fn is_slice(devno: Devno) -> bool {
    blockdev::dm_uuid(devno).is_some_and(|uuid| DmIdentity::snapshot_of_store(&uuid).is_some())
}

/// Every slice that there is, and whose it is.
fn slices() -> Result<Vec<(Devno, String)>, DiskError> {
    let entries =
        fs::read_dir("/sys/class/block").doing(|| "list the block devices in /sys/class/block".to_owned())?;
    let mut slices = Vec::new();
    for entry in entries {
        let entry = entry.doing(|| "list the block devices in /sys/class/block".to_owned())?;
        if !entry.file_name().to_string_lossy().starts_with("dm-") {
            continue;
        }
        let number = fs::read_to_string(entry.path().join("dev")).unwrap_or_default();
        let Ok(devno) = number.trim_end().parse() else {
            continue; // it went away
        };
        let uuid = blockdev::dm_uuid(devno).unwrap_or_default();
        if let Some(snapshot) = DmIdentity::snapshot_of_store(&uuid) {
            slices.push((devno, snapshot.to_owned()));
        }
    }
    Ok(slices)
}

/// `None`: the holder is no snapshot.
fn reading(dm: &Dm, snapshot: &str, slice: Devno, top: &str) -> Result<Option<Reading>, DmError> {
    let table = dm.table(top)?;
    let ([line], Some(size)) = (table.as_slice(), blockdev::size_bytes(slice)) else {
        return Ok(None);
    };
    let Some(status) = dm.snapshot_status(top)? else {
        return Ok(None);
    };
    Ok(
        read(line, status, size).map(|(used_bytes, can_overflow, overflowed)| Reading {
            snapshot: snapshot.to_owned(),
            top: top.to_owned(),
            slice,
            used_bytes,
            size_bytes: size,
            can_overflow,
            overflowed,
        }),
    )
}

/// Used bytes, whether it can overflow, and whether it has. A merge makes room and needs none.
fn read(line: &TableLine, status: SnapshotStatus, size: u64) -> Option<(u64, bool, bool)> {
    // ORIGIN STORE PO CHUNK
    let chunk = line.params.split_whitespace().nth(3)?.parse().ok()?;
    let merging = line.kind == "snapshot-merge";
    let can_overflow = !merging && size / SECTOR < full_store_sectors(line.sectors, chunk);
    Some(match status {
        SnapshotStatus::Used { used, .. } => (used * SECTOR, can_overflow, false),
        SnapshotStatus::Overflow | SnapshotStatus::Invalid => (size, can_overflow, true),
        SnapshotStatus::MergeFailed | SnapshotStatus::Unknown => return None,
    })
}

/// How soon a slice will be full: each level is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nobody need be told.
    Well,
    /// Within an hour, or a quarter is left.
    Filling,
    /// Within ten minutes, or a tenth is left.
    Nearly,
    /// Within a minute, or a thirtieth is left.
    Close,
    /// It has overflowed.
    Overflowed,
}

/// Seconds left, and the share left as one part in so many, from which on a level holds.
const LEVELS: [(Level, u64, u64); 3] = [
    (Level::Close, 60, 30),
    (Level::Nearly, 600, 10),
    (Level::Filling, 3600, 4),
];

/// One slice over the time.
#[derive(Debug)]
pub struct Trend {
    past: VecDeque<(Instant, u64)>,
    size_bytes: u64,
    told: Level,
}

/// What a slice's readings come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// How fast it fills.
    pub bytes_per_second: u64,
    /// When it is full at that rate; 0 once it has overflowed. `None`: nothing is written, or it cannot overflow.
    pub seconds: Option<u64>,
    /// How it is.
    pub level: Level,
    /// A level that was not told yet.
    pub news: Option<Level>,
}

impl Trend {
    /// Before the first reading.
    #[must_use]
    pub fn new() -> Self {
        Self {
            past: VecDeque::new(),
            size_bytes: 0,
            told: Level::Well,
        }
    }

    /// Adds a reading. A slice that was made larger begins anew.
    pub fn add(&mut self, now: Instant, reading: &Reading) -> Outlook {
        if self.size_bytes != reading.size_bytes {
            self.size_bytes = reading.size_bytes;
            self.told = Level::Well;
        }
        let rate = self.rate(now, reading.used_bytes);
        self.past.push_back((now, reading.used_bytes));
        while self.past.len() > 2 && now.duration_since(self.past[1].0) >= RATE_OVER {
            self.past.pop_front();
        }
        let free = reading.size_bytes.saturating_sub(reading.used_bytes);
        let seconds = match (reading.overflowed, reading.can_overflow) {
            (true, _) => Some(0),
            (false, true) => free.checked_div(rate),
            (false, false) => None,
        };
        let level = level(reading, free, seconds);
        let news = (level > self.told).then_some(level);
        self.told = self.told.max(level);
        Outlook {
            bytes_per_second: rate,
            seconds,
            level,
            news,
        }
    }

    fn rate(&self, now: Instant, used: u64) -> u64 {
        let since = |(then, before): &(Instant, u64)| {
            let elapsed = now.duration_since(*then);
            let grown = u128::from(used.saturating_sub(*before));
            let rate = u64::try_from(grown * 1000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX);
            (elapsed >= RATE_FROM).then_some(rate)
        };
        let mean = self.past.front().and_then(since);
        let last = self.past.iter().rev().find_map(since);
        mean.max(last).unwrap_or(0)
    }
}

impl Default for Trend {
    fn default() -> Self {
        Self::new()
    }
}

fn level(reading: &Reading, free: u64, seconds: Option<u64>) -> Level {
    if reading.overflowed {
        return Level::Overflowed;
    }
    if !reading.can_overflow {
        return Level::Well;
    }
    let holds = |(_, within, part): &&(Level, u64, u64)| {
        seconds.is_some_and(|seconds| seconds < *within) || free < reading.size_bytes / part
    };
    LEVELS
        .iter()
        .find(holds)
        .map_or(Level::Well, |(level, _, _)| *level)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Level, Reading, Trend, read};
    use crate::disk::blockdev::Devno;
    use crate::disk::dm::SnapshotStatus;
    use crate::disk::record::TableLine;

    const MIB: u64 = 1 << 20;

    fn slice(used: u64) -> Reading {
        Reading {
            snapshot: "00c0ffee".to_owned(),
            top: "ff-x".to_owned(),
            slice: Devno { major: 253, minor: 3 },
            used_bytes: used * MIB,
            size_bytes: 1000 * MIB,
            can_overflow: true,
            overflowed: false,
        }
    }

    #[test]
    fn the_rate_is_of_now_or_of_the_last_half_minute() {
        let (mut trend, begin) = (Trend::new(), Instant::now());
        let mut add = |second, used| trend.add(begin + Duration::from_secs(second), &slice(used));
        assert_eq!((add(0, 100).bytes_per_second, add(0, 105).seconds), (0, None));
        assert_eq!(add(5, 110).bytes_per_second, 2 * MIB); // of the first reading, not of the second one
        let paused = add(10, 110);
        assert_eq!((paused.bytes_per_second, paused.seconds), (MIB, Some(890)));
        for second in 3..8 {
            add(second * 5, 110);
        }
        assert_eq!(add(40, 110).bytes_per_second, 0, "the burst is over");
        assert_eq!(add(45, 210).seconds, Some(39));
    }

    #[test]
    fn each_level_is_told_once() {
        let (mut trend, begin) = (Trend::new(), Instant::now());
        let mut at = 0;
        let mut add = |reading: Reading| {
            at += 100_000;
            trend.add(begin + Duration::from_secs(at), &reading).news
        };
        assert_eq!(add(slice(700)), None);
        assert_eq!(add(slice(760)), Some(Level::Filling));
        assert_eq!(add(slice(761)), None);
        assert_eq!(add(slice(700)), None);
        assert_eq!(add(slice(760)), None);
        assert_eq!(add(slice(970)), Some(Level::Close));
        assert_eq!(add(slice(950)), None);
        let mut extended = slice(970);
        extended.size_bytes *= 2;
        assert_eq!(add(extended.clone()), None);
        extended.used_bytes = 1900 * MIB;
        assert_eq!(add(extended.clone()), Some(Level::Nearly));
        extended.overflowed = true;
        assert_eq!(add(extended), Some(Level::Overflowed));
    }

    #[test]
    fn what_cannot_overflow_is_well_when_it_is_full() {
        let mut reading = slice(999);
        reading.can_overflow = false;
        let outlook = Trend::new().add(Instant::now(), &reading);
        assert_eq!((outlook.level, outlook.seconds), (Level::Well, None));
    }

    #[test]
    fn a_status_is_read_with_the_table() {
        let line = |kind: &str| TableLine {
            start: 0,
            sectors: 2048,
            kind: kind.to_owned(),
            params: "253:1 253:2 PO 8".to_owned(),
        };
        let used = SnapshotStatus::Used {
            used: 16,
            total: 1024,
            metadata: 16,
        };
        let small = 1024 * 512;
        assert_eq!(read(&line("snapshot"), used, small), Some((8192, true, false)));
        assert_eq!(
            read(&line("snapshot"), used, 4 * small),
            Some((8192, false, false))
        );
        assert_eq!(
            read(&line("snapshot-merge"), used, small),
            Some((8192, false, false))
        );
        assert_eq!(
            read(&line("snapshot"), SnapshotStatus::Overflow, small),
            Some((small, true, true))
        );
        assert_eq!(read(&line("snapshot"), SnapshotStatus::Unknown, small), None);
    }
}
