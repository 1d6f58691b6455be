//! What a snapshot's devices are really like now, whatever the record says; and the parts below a top.

use std::path::Path;

use crate::disk::blockdev::{self, Devno};
use crate::disk::dm::{Dm, DmError, Role, SnapshotStatus};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::mounts::{Mount, mounts};
use crate::disk::record::{DeviceRecord, DmIdentity, Record, State, TableLine};
use crate::disk::table::{join, numbered, same};

/// The table that a top runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// There is no such top now.
    Missing,
    /// The one from before the snapshot.
    Old,
    /// `snapshot` of our origin.
    Snapshot,
    /// `snapshot-merge` into our origin.
    Merging,
    /// `error`: an extend was cut off between two switches. Nobody can mount it; what is on the store is whole.
    Blocked,
    /// Something else.
    Other(String),
}

/// Looks at the N-th device of a snapshot.
///
/// # Errors
///
/// When the device mapper does not answer.
pub fn live(dm: &Dm, record: &Record, index: usize) -> Result<Live, DmError> {
    let device = &record.devices[index];
    let Some(top) = dm.info(&device.top)? else {
        return Ok(Live::Missing);
    };
    if top.uuid != device.top_uuid {
        return Ok(Live::Other(format!(
            "another device of that name, with the uuid `{}`",
            top.uuid
        )));
    }
    let table = match dm.table(&device.top) {
        Err(DmError::Missing(_)) => return Ok(Live::Missing), // removed since
        other => other?,
    };
    let ours = |line: &TableLine| -> Result<bool, DmError> {
        let origin = dm.info(&record.origin(index).name)?;
        Ok(origin
            .is_some_and(|origin| line.params.split_whitespace().next() == Some(&origin.devno.to_string())))
    };
    Ok(match table.as_slice() {
        [line] if line.kind == "snapshot" && ours(line)? => Live::Snapshot,
        [line] if line.kind == "snapshot-merge" && ours(line)? => Live::Merging,
        _ if numbered(&device.table).is_ok_and(|old| same(&old, &table)) => Live::Old,
        _ if same(&[device.blocked_table()], &table) => Live::Blocked,
        _ => Live::Other(format!("the table `{}`", join(&table))),
    })
}

/// All of them.
///
/// # Errors
///
/// As [`live`].
pub fn all(dm: &Dm, record: &Record) -> Result<Vec<Live>, DmError> {
    (0..record.devices.len())
        .map(|index| live(dm, record, index))
        .collect()
}

/// The state that counts: a take that was killed right behind the switch left `armed`, and is active.
#[must_use]
pub fn effective(record: &Record, live: &[Live]) -> State {
    if record.state == State::Armed && live.contains(&Live::Snapshot) {
        State::Active
    } else {
        record.state
    }
}

/// Makes the origin and the store's slice of the N-th device, where they are not there. Their numbers.
///
/// # Errors
///
/// When a device below is missing, or the kernel refuses.
pub fn parts(dm: &Dm, store: &Path, record: &Record, index: usize) -> Result<(Devno, Devno), DiskError> {
    let device = &record.devices[index];
    let old = numbered(&device.table).doing(|| format!("find what {} is made of", device.top))?;
    let below = blockdev::devno(store).doing(|| format!("find the store {}", store.display()))?;
    let part = |identity: &DmIdentity, table: &[TableLine]| match dm.info(&identity.name)? {
        Some(info) => Ok(info.devno),
        None => dm.create(identity, table, Role::Part),
    };
    let origin = part(&record.origin(index), &old)?;
    let slice = part(&record.store(index), &device.store_table(below))?;
    Ok((origin, slice))
}

/// Removes the origins and slices that no top holds any more.
///
/// # Errors
///
/// When one is still in use.
pub fn remove_parts(dm: &Dm, record: &Record) -> Result<(), DmError> {
    for index in 0..record.devices.len() {
        dm.remove_if_there(&record.store(index).name)?;
        dm.remove_if_there(&record.origin(index).name)?;
    }
    Ok(())
}

/// The table of a top that has the snapshot, or merges it.
///
/// # Errors
///
/// As [`parts`].
pub fn snapshot_table(
    dm: &Dm,
    store: &Path,
    record: &Record,
    index: usize,
    kind: &str,
) -> Result<Vec<TableLine>, DiskError> {
    let (origin, slice) = parts(dm, store, record, index)?;
    Ok(vec![record.devices[index].snapshot_table(kind, origin, slice)])
}

/// The table that a top had before, with the devices' numbers of now.
///
/// # Errors
///
/// When a device below is missing.
pub fn old_table(device: &DeviceRecord) -> Result<Vec<TableLine>, DiskError> {
    numbered(&device.table).doing(|| format!("find what {} is made of", device.top))
}

/// What the target of a top reports; `None` where it has none.
///
/// # Errors
///
/// As [`live`].
pub fn status(dm: &Dm, device: &DeviceRecord, live: &Live) -> Result<Option<SnapshotStatus>, DmError> {
    match live {
        Live::Snapshot | Live::Merging => dm.snapshot_status(&device.top),
        Live::Missing | Live::Old | Live::Blocked | Live::Other(_) => Ok(None),
    }
}

/// The mounts of a dm device, in this mount namespace.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn mounts_of(devno: Devno) -> Result<Vec<Mount>, DiskError> {
    let all = mounts().doing(|| "read /proc/self/mountinfo".to_owned())?;
    Ok(all.into_iter().filter(|mount| mount.is_on(devno)).collect())
}

/// Who has a dm device, beside as many devices as are known to be made of it. `None`: nobody.
///
/// # Errors
///
/// When the device mapper does not answer.
pub fn user_of(dm: &Dm, name: &str, expected: u32) -> Result<Option<String>, DiskError> {
    let Some(info) = dm.info(name)? else {
        return Ok(None);
    };
    if let Some(mount) = mounts_of(info.devno)?.first() {
        return Ok(Some(format!("is mounted on {}", mount.point.display())));
    }
    // udev and others look at a device for a moment.
    for _ in 0..10 {
        if dm.existing(name)?.open_count <= expected {
            return Ok(None);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let holders: Vec<_> = blockdev::holders(info.devno)
        .into_iter()
        .filter_map(blockdev::dm_name)
        .collect();
    Ok(Some(if holders.len() > expected as usize {
        format!("is part of {}", holders.join(", "))
    } else {
        "is open (by a program, or mounted in another mount namespace: see `lsof` and `lsns`)".to_owned()
    }))
}

/// Refuses where a top is mounted or open.
///
/// # Errors
///
/// Then.
pub fn unused(
    dm: &Dm,
    top: &str,
    what: impl FnOnce() -> String,
    remedy: impl FnOnce(&str) -> String,
) -> Result<(), DiskError> {
    match user_of(dm, top, 0)? {
        None => Ok(()),
        Some(user) => Err(DiskError::Busy {
            what: what(),
            top: top.to_owned(),
            remedy: remedy(&user),
            user,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Live, effective};
    use crate::disk::record::State;
    use crate::disk::record::tests::record;

    #[test]
    fn a_take_that_was_killed_behind_the_switch_is_active() {
        let mut record = record("00c0ffee", &[]);
        record.state = State::Armed;
        assert_eq!(effective(&record, &[Live::Old]), State::Armed);
        assert_eq!(effective(&record, &[Live::Old, Live::Snapshot]), State::Active);
        record.state = State::Merging;
        assert_eq!(effective(&record, &[Live::Snapshot]), State::Merging);
    }
}
