//! The stores of active snapshots, watched: how full they are, how long they will last, and when somebody should be told.
//!
//! All of it is read from the device mapper. The stores' own records are on disks that would have to be searched.

mod trend;

use std::fs;

pub use self::trend::{Level, Outlook, Trend};
use crate::disk::blockdev::{self, Devno, SECTOR};
use crate::disk::dm::{Dm, DmError, SnapshotStatus};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::record::{DmIdentity, TableLine, full_store_sectors};

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

#[cfg(test)]
mod tests {
    use super::read;
    use crate::disk::dm::SnapshotStatus;
    use crate::disk::record::TableLine;

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
