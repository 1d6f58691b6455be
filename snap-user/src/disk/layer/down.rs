//! `freezeframe layer down`: stops the layers at shutdown, when their filesystems are unmounted, and says of snapshots that
//! are not to be kept that the next start is from the origin. The root is never unmounted: its layer, and the snapshots that it
//! is part of, are left for `freezeframe layer down --root` ([`root::down`]).

use crate::disk::dm::Dm;
use crate::disk::error::DiskError;
use crate::disk::layer::config::Config;
use crate::disk::layer::root;
use crate::disk::live::{self, Live};
use crate::disk::record::{AtShutdown, DmIdentity, Record, State};
use crate::disk::store::Store;
use crate::disk::{discard, find};

/// Stops every layer that is configured, but for the root's. One that is still mounted stays, as it is, and its snapshot too.
///
/// # Errors
///
/// When one stays.
pub fn down() -> Result<(), DiskError> {
    let (config, dm) = (Config::read()?, Dm::open()?);
    for store in find::stores()? {
        let mut store = Store::lock(store.device())?;
        for record in store.state().snapshots.clone() {
            if record.at_shutdown == AtShutdown::Discard
                && !root::has(&dm, &record)?
                && let Err(error) = give_up(&dm, &mut store, &record)
            {
                tell!("{error}");
            }
        }
    }
    let mut failed = 0;
    for entry in &config.entries {
        if root::is_on(&dm, &DmIdentity::layer(&entry.name).name)? {
            continue;
        }
        if let Err(error) = stop(&dm, &entry.name) {
            tell!("{error}");
            failed += 1;
        }
    }
    // What no top holds any more.
    for record in find::stores()?.iter().flat_map(|store| &store.state().snapshots) {
        if !live::all(&dm, record)?
            .iter()
            .any(|live| matches!(live, Live::Snapshot | Live::Merging))
        {
            live::remove_parts(&dm, record)?;
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(DiskError::Layers {
            failed,
            all: config.entries.len(),
            done: "down",
        }),
    }
}

/// Only where all of it is unmounted: a snapshot is of one instant.
fn give_up(dm: &Dm, store: &mut Store, record: &Record) -> Result<(), DiskError> {
    let live = live::all(dm, record)?;
    if live::effective(record, &live) != State::Active {
        return Ok(());
    }
    for device in &record.devices {
        live::unused(
            dm,
            &device.top,
            || format!("discard {} at shutdown", record.id),
            |_| "it stays as it is".to_owned(),
        )?;
    }
    store.record_mut(&record.id)?.state = State::Discarding;
    store.write()?;
    tell!("snapshot {} is discarded", record.id);
    discard::drop_record(dm, store, record, &live)
}

fn stop(dm: &Dm, name: &str) -> Result<(), DiskError> {
    let identity = DmIdentity::layer(name);
    if dm
        .info(&identity.name)?
        .is_none_or(|info| info.uuid != identity.uuid)
    {
        return Ok(());
    }
    live::unused(
        dm,
        &identity.name,
        || format!("stop the layer {name}"),
        |user| match user.strip_prefix("is mounted on ") {
            Some(point) => format!("unmount it with `umount {point}`"),
            None => "close it".to_owned(),
        },
    )?;
    dm.remove(&identity.name)?;
    Ok(())
}
