//! `freezeframe ls`: the snapshots on every store, how full they are, and how long they will last at the present rate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::disk::blockdev::SECTOR;
use crate::disk::dm::{Dm, SnapshotStatus};
use crate::disk::error::DiskError;
use crate::disk::find;
use crate::disk::live::{self, Live};
use crate::disk::record::{AtShutdown, DeviceRecord, Record, State};
use crate::disk::store::Store;
use crate::report::bytes;

/// What `ls --json` prints. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The stores.
    pub stores: Vec<StoreEntry>,
    /// The snapshots on them.
    pub snapshots: Vec<SnapshotEntry>,
}

/// One store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreEntry {
    /// Its device.
    pub device: String,
    /// Its uuid.
    pub uuid: String,
    /// Its size.
    pub bytes: u64,
    /// What no snapshot has.
    pub free_bytes: u64,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotEntry {
    /// Its ID.
    pub id: String,
    /// What it is.
    pub state: Shown,
    /// Where its store is.
    pub store: String,
    /// When its record was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The instant, in nanoseconds since 1970; 0: not taken.
    pub instant_unix_ns: u64,
    /// The processes that were snapshotted with it.
    pub targets: Vec<i32>,
    /// What becomes of it when the machine shuts down in order.
    pub at_shutdown: AtShutdown,
    /// Its devices.
    pub devices: Vec<DeviceEntry>,
}

/// What a snapshot is, its record and its devices taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// A take is about to switch.
    Armed,
    /// A take was killed before it switched: `discard` cleans up.
    Abandoned,
    /// What is written goes to the store.
    Active,
    /// Its tops are not there: their layers are not up.
    Down,
    /// A top runs on its old table: it was started without its store.
    Bypassed,
    /// It is being merged.
    Merging,
    /// It was being merged: `commit` goes on.
    Interrupted,
    /// It is being discarded, now or at the next start.
    Discarding,
}

/// One device of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceEntry {
    /// The top.
    pub top: String,
    /// The frozen origin, where there is one.
    pub origin: Option<String>,
    /// Where it is mounted now.
    pub mounts: Vec<String>,
    /// Its filesystem.
    pub filesystem: Option<String>,
    /// How the store is.
    pub store: StoreHealth,
    /// What the slice holds, its metadata included.
    pub used_bytes: u64,
    /// The slice's size.
    pub total_bytes: u64,
    /// Whether more may be written than it takes.
    pub can_overflow: bool,
    /// How fast it fills.
    pub bytes_per_second: u64,
    /// When it is full at that rate.
    pub seconds_to_overflow: Option<u64>,
}

/// How a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreHealth {
    /// Well.
    Ok,
    /// Full: writers get errors.
    Overflow,
    /// Failed: what was written is lost.
    Invalid,
    /// The merge has stopped.
    MergeFailed,
    /// Merged already.
    Merged,
    /// Not in use now.
    Unused,
}

/// Looks twice, that far apart.
///
/// # Errors
///
/// When the device mapper or the stores cannot be read.
pub fn list(interval: Duration) -> Result<Listing, DiskError> {
    let stores = find::stores()?;
    let dm = Dm::open()?;
    let first = used(&dm, &stores)?;
    let clock = Instant::now();
    if first.values().any(|used| *used > 0) {
        sleep(interval);
    }
    let elapsed = clock.elapsed();
    let mut listing = Listing {
        stores: Vec::new(),
        snapshots: Vec::new(),
    };
    for store in &stores {
        listing.stores.push(StoreEntry {
            device: store.device().display().to_string(),
            uuid: store.state().uuid.clone(),
            bytes: store.state().sectors * SECTOR,
            free_bytes: store.free_sectors() * SECTOR,
        });
        for record in &store.state().snapshots {
            listing
                .snapshots
                .push(snapshot(&dm, store, record, &first, elapsed)?);
        }
    }
    listing.snapshots.sort_by_key(|entry| entry.created_unix_ms);
    Ok(listing)
}

/// Used sectors by the name of the slice's device.
fn used(dm: &Dm, stores: &[Store]) -> Result<BTreeMap<String, u64>, DiskError> {
    let mut all = BTreeMap::new();
    for record in stores.iter().flat_map(|store| &store.state().snapshots) {
        for (index, device) in record.devices.iter().enumerate() {
            let live = live::live(dm, record, index)?;
            if let Some(SnapshotStatus::Used { used, .. }) = live::status(dm, device, &live)? {
                all.insert(record.store(index).name, used);
            }
        }
    }
    Ok(all)
}

fn snapshot(
    dm: &Dm,
    store: &Store,
    record: &Record,
    before: &BTreeMap<String, u64>,
    elapsed: Duration,
) -> Result<SnapshotEntry, DiskError> {
    let live = live::all(dm, record)?;
    let devices = (0..record.devices.len())
        .map(|index| {
            let name = record.store(index).name;
            device(
                dm,
                record,
                index,
                &live[index],
                before.get(&name).copied(),
                elapsed,
            )
        })
        .collect::<Result<_, _>>()?;
    Ok(SnapshotEntry {
        id: record.id.clone(),
        state: shown(record, &live, || locked(store)),
        store: store.device().display().to_string(),
        created_unix_ms: record.created_unix_ms,
        instant_unix_ns: record.instant_unix_ns,
        targets: record.targets.clone(),
        at_shutdown: record.at_shutdown,
        devices,
    })
}

fn shown(record: &Record, live: &[Live], locked: impl FnOnce() -> bool) -> Shown {
    match live::effective(record, live) {
        State::Armed if locked() => Shown::Armed,
        State::Armed => Shown::Abandoned,
        State::Active if live.contains(&Live::Snapshot) => Shown::Active,
        State::Active if live.contains(&Live::Old) => Shown::Bypassed,
        State::Active => Shown::Down,
        State::Merging if live.contains(&Live::Merging) => Shown::Merging,
        State::Merging => Shown::Interrupted,
        State::Discarding => Shown::Discarding,
    }
}

/// Whether some command changes the store now.
fn locked(store: &Store) -> bool {
    flock(store.file(), FlockOperation::NonBlockingLockShared).is_err()
        || flock(store.file(), FlockOperation::Unlock).is_err()
}

fn device(
    dm: &Dm,
    record: &Record,
    index: usize,
    live: &Live,
    before: Option<u64>,
    elapsed: Duration,
) -> Result<DeviceEntry, DiskError> {
    let device = &record.devices[index];
    let mut entry = DeviceEntry {
        top: device.top.clone(),
        origin: None,
        mounts: mounts(dm, device, live)?,
        filesystem: device
            .filesystem
            .as_ref()
            .map(|filesystem| filesystem.kind.clone()),
        store: StoreHealth::Unused,
        used_bytes: 0,
        total_bytes: device.store_sectors() * SECTOR,
        can_overflow: device.can_overflow(),
        bytes_per_second: 0,
        seconds_to_overflow: None,
    };
    if *live == Live::Snapshot && record.state != State::Merging {
        entry.origin = Some(format!("/dev/mapper/{}", record.origin(index).name));
    }
    entry.store = match live::status(dm, device, live)? {
        Some(SnapshotStatus::Used { used, total, .. }) => {
            entry.used_bytes = used * SECTOR;
            entry.total_bytes = total * SECTOR;
            let grown = used.saturating_sub(before.unwrap_or(used)) * SECTOR;
            entry.bytes_per_second = per_second(grown, elapsed);
            if entry.can_overflow {
                entry.seconds_to_overflow = (entry.total_bytes - entry.used_bytes.min(entry.total_bytes))
                    .checked_div(entry.bytes_per_second);
            }
            StoreHealth::Ok
        }
        Some(SnapshotStatus::Overflow) => {
            entry.used_bytes = entry.total_bytes;
            StoreHealth::Overflow
        }
        Some(SnapshotStatus::Invalid) => StoreHealth::Invalid,
        Some(SnapshotStatus::MergeFailed) => StoreHealth::MergeFailed,
        Some(SnapshotStatus::Unknown) => StoreHealth::Ok,
        None if device.merged => StoreHealth::Merged,
        None => StoreHealth::Unused,
    };
    Ok(entry)
}

fn mounts(dm: &Dm, device: &DeviceRecord, live: &Live) -> Result<Vec<String>, DiskError> {
    if *live == Live::Missing {
        return Ok(Vec::new());
    }
    Ok(live::mounts_of(dm.devno(&device.top)?)?
        .into_iter()
        .map(|mount| mount.point.display().to_string())
        .collect())
}

fn per_second(grown: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(grown) * 1_000_000 / elapsed.as_micros().max(1)).unwrap_or(u64::MAX)
}

impl Listing {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        if self.snapshots.is_empty() {
            text.push_str("no snapshots on disk\n");
        } else {
            text.push_str("ID        TAKEN                STATE        ON                        STORE               OUTLOOK\n");
        }
        for entry in &self.snapshots {
            for (index, device) in entry.devices.iter().enumerate() {
                let (id, taken, state) = if index == 0 {
                    (entry.id.as_str(), utc(entry.instant_unix_ns), entry.state.name())
                } else {
                    ("", String::new(), "")
                };
                let place = device.mounts.first().unwrap_or(&device.top);
                // Writing to a String does not fail.
                let _ = writeln!(
                    text,
                    "{id:<8}  {taken:<19}  {state:<11}  {place:<24}  {:<18}  {}",
                    device.fill(),
                    device.outlook(entry)
                );
            }
        }
        for store in &self.stores {
            let _ = writeln!(
                text,
                "store {}: {}, {} free",
                store.device,
                bytes(store.bytes),
                bytes(store.free_bytes)
            );
        }
        text
    }
}

impl Shown {
    fn name(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Abandoned => "abandoned",
            Self::Active => "active",
            Self::Down => "down",
            Self::Bypassed => "bypassed",
            Self::Merging => "merging",
            Self::Interrupted => "interrupted",
            Self::Discarding => "discarding",
        }
    }
}

impl DeviceEntry {
    fn fill(&self) -> String {
        let percent = u128::from(self.used_bytes) * 100 / u128::from(self.total_bytes.max(1));
        format!("{percent} % of {}", bytes(self.total_bytes))
    }

    fn outlook(&self, entry: &SnapshotEntry) -> String {
        let id = &entry.id;
        match self.store {
            StoreHealth::Overflow => {
                return format!(
                    "OVERFLOWED: writers get errors; unmount, `freezeframe extend {id}` or `discard {id}`"
                );
            }
            StoreHealth::Invalid => {
                return format!("INVALID: what was written is lost; unmount, `freezeframe discard {id}`");
            }
            StoreHealth::MergeFailed => return format!("MERGE FAILED: see dmesg; `freezeframe commit {id}`"),
            StoreHealth::Merged => return "merged".to_owned(),
            StoreHealth::Ok | StoreHealth::Unused => {}
        }
        match entry.state {
            Shown::Abandoned => format!("nothing was switched: `freezeframe discard {id}`"),
            Shown::Down => "`freezeframe layer up`".to_owned(),
            Shown::Bypassed => format!(
                "started without its store, as at the instant: `freezeframe discard {id}` (see docs/disk.md)"
            ),
            Shown::Interrupted => format!("go on with `freezeframe commit {id}`"),
            Shown::Merging => format!("ended by `freezeframe commit {id}`"),
            Shown::Armed | Shown::Discarding => String::new(),
            Shown::Active if !self.can_overflow => "cannot overflow".to_owned(),
            Shown::Active => match self.seconds_to_overflow {
                Some(seconds) => format!("full in {seconds} s at {}/s", bytes(self.bytes_per_second)),
                None => "may overflow; nothing is written now".to_owned(),
            },
        }
    }
}

/// `2026-01-31 12:00:00`, in UTC.
fn utc(unix_ns: u64) -> String {
    if unix_ns == 0 {
        return "-".to_owned();
    }
    let seconds = unix_ns / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0: leap days come last in a year then.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{date:02} {:02}:{:02}:{:02}",
        era * 400 + year + carry,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DeviceEntry, Listing, Shown, SnapshotEntry, StoreHealth, per_second, shown, utc};
    use crate::disk::live::Live;
    use crate::disk::record::tests::record;
    use crate::disk::record::{AtShutdown, State};

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "-");
        assert_eq!(utc(1_000_000_000_000_000_000), "2001-09-09 01:46:40");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_735_689_599_000_000_000), "2024-12-31 23:59:59");
        assert_eq!(utc(1_798_761_600_000_000_000), "2027-01-01 00:00:00");
    }

    #[test]
    fn a_state_is_what_the_devices_make_of_the_record() {
        let mut record = record("00c0ffee", &[]);
        let mut is = |state, live, locked| {
            record.state = state;
            shown(&record, &[live], || locked)
        };
        assert_eq!(is(State::Armed, Live::Old, true), Shown::Armed);
        assert_eq!(is(State::Armed, Live::Old, false), Shown::Abandoned);
        assert_eq!(is(State::Armed, Live::Snapshot, false), Shown::Active);
        assert_eq!(is(State::Active, Live::Missing, false), Shown::Down);
        assert_eq!(is(State::Active, Live::Old, false), Shown::Bypassed);
        assert_eq!(is(State::Merging, Live::Snapshot, false), Shown::Interrupted);
        assert_eq!(is(State::Merging, Live::Merging, false), Shown::Merging);
    }

    #[test]
    fn the_table_says_how_long_it_lasts() {
        let mut device = DeviceEntry {
            top: "ff-x".to_owned(),
            origin: None,
            mounts: vec!["/srv".to_owned()],
            filesystem: None,
            store: StoreHealth::Ok,
            used_bytes: 1 << 20,
            total_bytes: 4 << 20,
            can_overflow: true,
            bytes_per_second: 1 << 20,
            seconds_to_overflow: Some(3),
        };
        assert_eq!(per_second(10, Duration::from_millis(500)), 20);
        let table = |device: &DeviceEntry| {
            Listing {
                stores: Vec::new(),
                snapshots: vec![SnapshotEntry {
                    id: "00c0ffee".to_owned(),
                    state: Shown::Active,
                    store: "/dev/sdc".to_owned(),
                    created_unix_ms: 1,
                    instant_unix_ns: 1,
                    targets: Vec::new(),
                    at_shutdown: AtShutdown::Keep,
                    devices: vec![device.clone()],
                }],
            }
            .table()
        };
        assert!(
            table(&device).contains("25 % of 4.0 MiB     full in 3 s at 1.0 MiB/s"),
            "{}",
            table(&device)
        );
        device.can_overflow = false;
        assert!(table(&device).contains("cannot overflow"));
        device.store = StoreHealth::Overflow;
        assert!(table(&device).contains("OVERFLOWED"));
    }
}
