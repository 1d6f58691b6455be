//! `freezeframe discard`: back to the instant. What was written since is lost, so nobody may have the top open.

use crate::disk::dm::Dm;
use crate::disk::error::DiskError;
use crate::disk::live::{self, Live};
use crate::disk::record::{AtShutdown, Record, State};
use crate::disk::store::Store;
use crate::disk::{find, marker};

/// What was there to discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// A snapshot: its tops are as at the instant.
    Snapshot,
    /// What a take left that was killed before the switch: nothing has changed.
    Leftover,
}

/// Discards a snapshot. Its whole ID, and what it was.
///
/// # Errors
///
/// When a top is mounted or open, or the snapshot is being committed.
pub fn discard(prefix: &str) -> Result<(String, Discarded), DiskError> {
    let (device, id) = find::snapshot(prefix)?;
    let dm = Dm::open()?;
    let mut store = Store::lock(&device)?;
    let record = store.record(&id)?.clone();
    let live = live::all(&dm, &record)?;
    let state = live::effective(&record, &live);
    check(&dm, &record, state, &live)?;
    if record.state != State::Discarding {
        store.record_mut(&id)?.state = State::Discarding;
        store.write()?;
    }
    drop_record(&dm, &mut store, &record, &live)?;
    let what = if state == State::Armed {
        Discarded::Leftover
    } else {
        Discarded::Snapshot
    };
    Ok((id, what))
}

/// Has a snapshot discarded when the machine shuts down in order, and not before.
///
/// # Errors
///
/// When there is no such snapshot.
pub fn at_shutdown(prefix: &str) -> Result<String, DiskError> {
    let (device, id) = find::snapshot(prefix)?;
    let mut store = Store::lock(&device)?;
    store.record_mut(&id)?.at_shutdown = AtShutdown::Discard;
    store.write()?;
    Ok(id)
}

fn check(dm: &Dm, record: &Record, state: State, live: &[Live]) -> Result<(), DiskError> {
    let id = &record.id;
    if state == State::Merging {
        return Err(DiskError::State {
            what: "discard",
            id: id.clone(),
            why: "it is being committed, and its origin is no longer as at the instant".to_owned(),
            remedy: format!("finish that with `freezeframe commit {id}`"),
        });
    }
    for (index, live) in live.iter().enumerate() {
        let top = &record.devices[index].top;
        if matches!(live, Live::Snapshot | Live::Blocked) {
            live::unused(
                dm,
                top,
                || format!("discard {id}"),
                |user| match user.strip_prefix("is mounted on ") {
                    Some(point) => {
                        format!("unmount it with `umount {point}`, or have it done by `--at-shutdown`")
                    }
                    None => "close it, or have it done by `--at-shutdown`".to_owned(),
                },
            )?;
        }
        let view = record.view(index).name;
        if let Some(info) = dm.info(&view)? {
            let remedy = match live::mounts_of(info.devno)?.first() {
                Some(mount) => format!(
                    "unmount it with `freezeframe origin {id} --unmount {}`",
                    mount.point.display()
                ),
                None => format!("remove it with `dmsetup remove {view}`"),
            };
            return Err(DiskError::Busy {
                what: format!("discard {id}"),
                top: view,
                user: "still shows its frozen origin".to_owned(),
                remedy,
            });
        }
    }
    Ok(())
}

/// Gives every top its old table back, and forgets the snapshot, whose record says `discarding`.
///
/// # Errors
///
/// When the kernel refuses.
pub fn drop_record(dm: &Dm, store: &mut Store, record: &Record, live: &[Live]) -> Result<(), DiskError> {
    for (device, live) in record.devices.iter().zip(live) {
        match live {
            Live::Snapshot | Live::Blocked => dm.switch(&device.top, &live::old_table(device)?)?,
            // A take that was killed may have left a table in the inactive slot, and it holds the parts.
            Live::Old => dm.clear(&device.top)?,
            Live::Missing | Live::Merging | Live::Other(_) => {}
        }
    }
    live::remove_parts(dm, record)?;
    forget(store, record)
}

/// Forgets a snapshot that no top runs on.
///
/// # Errors
///
/// When the store's disk does not take it.
pub fn forget(store: &mut Store, record: &Record) -> Result<(), DiskError> {
    store.state_mut().remove(&record.id);
    store.write()?;
    for device in &record.devices {
        marker::remove(&device.top, &record.id);
    }
    Ok(())
}
