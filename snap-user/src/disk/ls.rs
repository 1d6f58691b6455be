//! `freezeframe ls`: the snapshots on every store, how full they are, and how long they will last at the present rate.

mod table;

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::disk::blockdev::SECTOR;
use crate::disk::dm::{Dm, SnapshotStatus};
use crate::disk::error::DiskError;
use crate::disk::live::{self, Live};
use crate::disk::record::{AtShutdown, DeviceRecord, Record, State};
use crate::disk::store::Store;
use crate::disk::union::life::UnionEntry;
use crate::disk::{find, union};

/// What `ls --json` prints. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The stores.
    pub stores: Vec<StoreEntry>,
    /// The snapshots on them.
    pub snapshots: Vec<SnapshotEntry>,
    /// Filesystems with an overlay over them.
    pub unions: Vec<UnionEntry>,
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
    let mut listing = Listing {
        stores: Vec::new(),
        snapshots: Vec::new(),
        unions: union::life::list()?,
    };
    if stores.is_empty() {
        return Ok(listing); // the device mapper need not be there
    }
    let dm = Dm::open()?;
    let first = used(&dm, &stores)?;
    let clock = Instant::now();
    if first.values().any(|used| *used > 0) {
        sleep(interval);
    }
    let elapsed = clock.elapsed();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Shown, per_second, shown};
    use crate::disk::live::Live;
    use crate::disk::record::State;
    use crate::disk::record::tests::record;

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
        assert_eq!(is(State::Active, Live::Blocked, false), Shown::Down);
        assert_eq!(is(State::Merging, Live::Snapshot, false), Shown::Interrupted);
        assert_eq!(is(State::Merging, Live::Merging, false), Shown::Merging);
    }

    #[test]
    fn a_rate_is_per_second() {
        assert_eq!(per_second(10, Duration::from_millis(500)), 20);
    }
}
