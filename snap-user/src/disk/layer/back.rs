//! Puts tops back on their stores that are up, and not on them.

use std::path::Path;

use crate::disk::dm::Dm;
use crate::disk::error::DiskError;
use crate::disk::find;
use crate::disk::live::{self, Live};
use crate::disk::record::{DeviceRecord, DmIdentity, Record, State};
use crate::disk::store::Store;

/// How long the machine has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This is the first `up` since its boot.
    Boot,
    /// There was one before.
    Later,
}

/// Puts tops back on their stores: those that an extend left on an `error` table; and right after boot those that are no layers,
/// for they are up on their old tables, and nobody has mounted them yet. How many are not on their stores.
///
/// # Errors
///
/// When the device mapper or the stores cannot be read.
pub fn back(dm: &Dm, since: Since) -> Result<usize, DiskError> {
    let mut failed = 0;
    for store in find::stores()? {
        // An extend or a commit that is under way switches them itself.
        let store = Store::lock(store.device())?;
        for record in &store.state().snapshots {
            for (index, device) in record.devices.iter().enumerate() {
                let live = live::live(dm, record, index)?;
                if !is_put_back(record, device, &live, since) {
                    continue;
                }
                if let Err(error) = put_back(dm, store.device(), record, index, &live) {
                    tell!("{error}");
                    failed += 1;
                }
            }
        }
    }
    Ok(failed)
}

fn is_put_back(record: &Record, device: &DeviceRecord, live: &Live, since: Since) -> bool {
    let runs = matches!(record.state, State::Active | State::Merging) && !device.merged;
    let layer = device.top_uuid == DmIdentity::layer(device.top.trim_start_matches("ff-")).uuid;
    runs && (*live == Live::Blocked || (since == Since::Boot && !layer))
}

fn put_back(dm: &Dm, store: &Path, record: &Record, index: usize, live: &Live) -> Result<(), DiskError> {
    let device = &record.devices[index];
    match live {
        Live::Snapshot | Live::Merging => return Ok(()),
        Live::Old | Live::Blocked => {}
        Live::Missing | Live::Other(_) => {
            return Err(DiskError::State {
                what: "put back",
                id: record.id.clone(),
                why: format!("{} is not there yet, and is no layer of Freezeframe's", device.top),
                remedy: "do not mount it: start it, then call `freezeframe layer up` after removing /run/freezeframe/layers-up"
                    .to_owned(),
            });
        }
    }
    live::unused(
        dm,
        &device.top,
        || format!("put {} back on its store", record.id),
        |_| "what was written since the instant is on the store only".to_owned(),
    )?;
    let kind = if record.state == State::Merging {
        "snapshot-merge"
    } else {
        "snapshot"
    };
    dm.switch(
        &device.top,
        &live::snapshot_table(dm, store, record, index, kind)?,
    )?;
    tell!("{} is on snapshot {} ({kind})", device.top, record.id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Since, is_put_back};
    use crate::disk::live::Live;
    use crate::disk::record::State;
    use crate::disk::record::tests::record_of_two;

    #[test]
    fn what_is_no_layer_is_put_back_after_a_boot_and_what_is_blocked_at_any_time() {
        let record = record_of_two(State::Active);
        let back = |index: usize, live, since| is_put_back(&record, &record.devices[index], &live, since);
        assert!(back(1, Live::Old, Since::Boot));
        assert!(!back(1, Live::Old, Since::Later));
        assert!(!back(0, Live::Old, Since::Boot));
        assert!(back(0, Live::Blocked, Since::Later));
        let armed = record_of_two(State::Armed);
        assert!(!is_put_back(&armed, &armed.devices[1], &Live::Old, Since::Boot));
    }
}
