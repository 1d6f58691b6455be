//! `freezeframe extend`: more room for what is written while a snapshot is active.
//!
//! The `snapshot` target asks for the size of its store whenever it needs a chunk (`persistent_prepare_exception` in
//! drivers/md/dm-snap-persistent.c), so it is enough to make the slice larger. Once it has overflowed it stays so until it
//! is loaded anew, which needs the top unmounted: by way of the `error` target, for whoever is cut off in between must leave
//! nothing that could be mounted without the store.

use serde::Serialize;

use crate::disk::blockdev::{self, SECTOR};
use crate::disk::dm::{Dm, DmError, SnapshotStatus};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::find;
use crate::disk::live::{self, Live};
use crate::disk::record::{DeviceRecord, Extent, Record, State, full_store_sectors};
use crate::disk::store::{ALIGN, Store, StoreError};

/// What became of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Extended {
    /// The top.
    pub top: String,
    /// How much larger its slice is.
    pub added_bytes: u64,
    /// Its size now.
    pub store_bytes: u64,
    /// Whether more may be written than it takes.
    pub can_overflow: bool,
    /// Whether it had overflowed, and what was done about that.
    pub overflow: Overflow,
}

/// Whether a slice had overflowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// No.
    None,
    /// Yes, and it was loaded anew: it takes writes again.
    Cleared,
    /// Yes, and it is in use, so it cannot be loaded anew yet.
    Stays,
}

/// Extends the slices of a snapshot by that many bytes in all; `None`: until they cannot overflow, or the store is full.
///
/// # Errors
///
/// When the store has no room, or the snapshot is not active.
pub fn extend(prefix: &str, by: Option<u64>) -> Result<Vec<Extended>, DiskError> {
    let (device, id) = find::snapshot(prefix)?;
    let dm = Dm::open()?;
    let mut store = Store::lock(&device)?;
    let before = store.record(&id)?.clone();
    let live = live::all(&dm, &before)?;
    let state = live::effective(&before, &live);
    if !takes_more(state, &live) {
        return Err(DiskError::State {
            what: "extend",
            id,
            why: match state {
                State::Active => "a top runs on its old table, without its store".to_owned(),
                other => format!("it is {other}"),
            },
            remedy: "only an active snapshot takes more".to_owned(),
        });
    }
    let anew = to_be_loaded_anew(&dm, &before, &live)?;
    let shares = shares(&before, &store, by).or_else(|error| {
        if anew.contains(&true) {
            Ok(vec![0; before.devices.len()])
        } else {
            Err(error)
        }
    })?;
    for (index, sectors) in shares.iter().enumerate() {
        if *sectors > 0 {
            let more = store.allocate(*sectors)?;
            append(&mut store.record_mut(&id)?.devices[index].extents, &more);
        }
    }
    store.write()?;
    let record = store.record(&id)?.clone();
    let mut done = Vec::new();
    for (index, device) in record.devices.iter().enumerate() {
        grow(&dm, &store, &record, index)?;
        let overflow = if anew[index] {
            load_anew(&dm, &store, &record, index)?
        } else {
            Overflow::None
        };
        done.push(Extended {
            top: device.top.clone(),
            added_bytes: (device.store_sectors() - before.devices[index].store_sectors()) * SECTOR,
            store_bytes: device.store_sectors() * SECTOR,
            can_overflow: device.can_overflow(),
            overflow,
        });
    }
    Ok(done)
}

/// Whether a snapshot in that state, on tops like these, can be given more.
fn takes_more(state: State, live: &[Live]) -> bool {
    state == State::Active && !live.contains(&Live::Old)
}

/// Which have overflowed, an extend that was cut off among them.
fn to_be_loaded_anew(dm: &Dm, record: &Record, live: &[Live]) -> Result<Vec<bool>, DiskError> {
    record
        .devices
        .iter()
        .zip(live)
        .map(|(device, live)| Ok(is_overflow(live, live::status(dm, device, live)?)))
        .collect()
}

fn is_overflow(live: &Live, status: Option<SnapshotStatus>) -> bool {
    *live == Live::Blocked || status == Some(SnapshotStatus::Overflow)
}

/// Who gets how many sectors: by what each lacks until it cannot overflow.
fn shares(record: &Record, store: &Store, by: Option<u64>) -> Result<Vec<u64>, DiskError> {
    let lacks: Vec<_> = record.devices.iter().map(lack).collect();
    let total: u64 = lacks.iter().sum();
    let free = store.free_sectors();
    let wanted = match by {
        Some(bytes) => bytes.div_ceil(SECTOR).next_multiple_of(ALIGN).min(total),
        None => total.min(free),
    };
    if total == 0 {
        return Err(DiskError::State {
            what: "extend",
            id: record.id.clone(),
            why: "it cannot overflow as it is".to_owned(),
            remedy: "nothing is to be done".to_owned(),
        });
    }
    if wanted == 0 || wanted > free {
        return Err(StoreError::Full {
            device: store.device().to_owned(),
            free,
            wanted: wanted.max(ALIGN),
        }
        .into());
    }
    Ok(split(&lacks, total, wanted))
}

fn lack(device: &DeviceRecord) -> u64 {
    full_store_sectors(device.sectors, device.chunk_sectors)
        .saturating_sub(device.store_sectors())
        .next_multiple_of(ALIGN)
}

/// In whole MiB; what rounding leaves goes to the first that lack it.
fn split(lacks: &[u64], total: u64, wanted: u64) -> Vec<u64> {
    let mut shares: Vec<_> = lacks
        .iter()
        .map(|lack| {
            let share = u128::from(*lack) * u128::from(wanted) / u128::from(total.max(1));
            let share = u64::try_from(share).unwrap_or(*lack);
            share - share % ALIGN
        })
        .collect();
    let mut rest = wanted.saturating_sub(shares.iter().sum());
    for (share, lack) in shares.iter_mut().zip(lacks) {
        let more = rest.min(lack - *share);
        *share += more;
        rest -= more;
    }
    shares
}

fn append(extents: &mut Vec<Extent>, more: &[Extent]) {
    for extent in more {
        match extents.last_mut() {
            Some(last) if last.end() == extent.start => last.sectors += extent.sectors,
            _ => extents.push(*extent),
        }
    }
}

/// Gives the slice's device the size that the record says. Not [`Dm::switch`]: it changes nothing of what is there.
fn grow(dm: &Dm, store: &Store, record: &Record, index: usize) -> Result<(), DiskError> {
    let name = record.store(index).name;
    if dm.info(&name)?.is_none() {
        return Ok(()); // not up: it will be made so
    }
    let below =
        blockdev::devno(store.device()).doing(|| format!("find the store {}", store.device().display()))?;
    dm.switch(&name, &record.devices[index].store_table(below))?;
    Ok(())
}

/// By way of another table, for the overflow is handed over from a `snapshot` to the next. Not by the old one: whoever mounts
/// that writes past the store.
fn load_anew(dm: &Dm, store: &Store, record: &Record, index: usize) -> Result<Overflow, DiskError> {
    let device = &record.devices[index];
    if live::user_of(dm, &device.top, 0)?.is_some() {
        return Ok(Overflow::Stays);
    }
    let table = live::snapshot_table(dm, store.device(), record, index, "snapshot")?;
    // Where an extend was cut off, it is so already.
    dm.switch(&device.top, &[device.blocked_table()])?;
    dm.switch(&device.top, &table)
        .map_err(|error| left_blocked(&record.id, &device.top, &error))?;
    Ok(Overflow::Cleared)
}

fn left_blocked(id: &str, top: &str, error: &DmError) -> DiskError {
    DiskError::State {
        what: "load the overflowed store anew for",
        id: id.to_owned(),
        why: format!("{error}; nothing is lost, but {top} is on an `error` table now, and cannot be mounted"),
        remedy: format!("when that is mended, call `freezeframe extend {id}` again"),
    }
}

#[cfg(test)]
mod tests {
    use super::{append, is_overflow, left_blocked, split, takes_more};
    use crate::disk::dm::{DmError, SnapshotStatus};
    use crate::disk::live::Live;
    use crate::disk::record::{Extent, State};
    use crate::disk::store::ALIGN;

    #[test]
    fn what_is_added_is_shared_by_what_each_lacks() {
        assert_eq!(
            split(&[30 * ALIGN, 10 * ALIGN], 40 * ALIGN, 4 * ALIGN),
            [3 * ALIGN, ALIGN]
        );
        assert_eq!(
            split(&[30 * ALIGN, 10 * ALIGN], 40 * ALIGN, 40 * ALIGN),
            [30 * ALIGN, 10 * ALIGN]
        );
        assert_eq!(split(&[ALIGN, ALIGN], 2 * ALIGN, ALIGN), [ALIGN, 0]);
    }

    #[test]
    fn an_extend_that_was_cut_off_goes_on() {
        assert!(takes_more(State::Active, &[Live::Snapshot, Live::Blocked]));
        assert!(!takes_more(State::Active, &[Live::Snapshot, Live::Old]));
        assert!(!takes_more(State::Merging, &[Live::Snapshot]));
        assert!(is_overflow(&Live::Blocked, None));
        assert!(is_overflow(&Live::Snapshot, Some(SnapshotStatus::Overflow)));
        assert!(!is_overflow(&Live::Snapshot, Some(SnapshotStatus::Unknown)));
        let text = left_blocked("00c0ffee", "ff-x", &DmError::Missing("ff-x".to_owned())).to_string();
        assert!(
            text.contains("ff-x is on an `error` table") && text.contains("freezeframe extend 00c0ffee"),
            "{text}"
        );
    }

    #[test]
    fn neighbours_become_one() {
        let extent = |start, sectors| Extent { start, sectors };
        let mut extents = vec![extent(10, 5)];
        append(&mut extents, &[extent(15, 5), extent(30, 1)]);
        assert_eq!(extents, [extent(10, 10), extent(30, 1)]);
    }
}
