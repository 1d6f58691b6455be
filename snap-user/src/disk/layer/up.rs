//! `freezeframe layer up`: starts the layers, before anything is mounted from them, each as its snapshot left it.
//!
//! | record | the top gets |
//! |---|---|
//! | none | its device, one to one |
//! | `armed`, and nothing was written to any of its slices | its device; the record goes |
//! | `armed`, and something was: killed right behind the switch | `snapshot`; the record becomes `active`, and is kept |
//! | `active` | `snapshot` |
//! | `merging` | `snapshot-merge`: the kernel goes on, `commit` ends it |
//! | `discarding` | its device; the record goes |
//!
//! A top whose marker names a store that is not there is not started: without it the filesystem would be of the instant, and
//! whatever was written since would be lost at the first mount. The root's own layer is started in the initramfs
//! ([`crate::disk::layer::root`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::disk::dm::{Dm, Role};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::exceptions::{self, Content};
use crate::disk::layer::armed;
use crate::disk::layer::back::{Since, back};
use crate::disk::layer::config::{Config, Entry};
use crate::disk::layer::root::{self, Inside, On};
use crate::disk::layer::{passthrough, refusal};
use crate::disk::live::{self, Live};
use crate::disk::marker::Marker;
use crate::disk::record::{DeviceRecord, DmIdentity, Record, State};
use crate::disk::store::Store;
use crate::disk::{blockdev, discard, find, marker};

/// There since the first `up` after a boot.
const STAMP: &str = "/run/freezeframe/layers-up";

/// A snapshot that a top runs on, and which device of it the top is.
#[derive(Clone, Debug)]
struct Run {
    store: PathBuf,
    record: Record,
    index: usize,
}

/// Where the marker of a layer is looked for.
#[derive(Debug)]
pub enum Guard {
    /// On the root.
    Mounted,
    /// On the layer's own device: it is the root, and not mounted yet.
    Inside(Inside),
}

/// Starts every configured layer, and waits so long for devices that are not there yet. What is being done goes to standard
/// error. One that fails does not keep the others.
///
/// # Errors
///
/// When one failed.
pub fn up(patience: Duration) -> Result<(), DiskError> {
    let config = Config::read()?;
    let dm = Dm::open()?;
    let until = Instant::now() + patience;
    let mut failed = 0;
    for entry in &config.entries {
        if let Err(error) = start(&dm, entry, until, &Guard::Mounted) {
            tell!("{error}");
            failed += 1;
        }
    }
    for path in stores()? {
        if let Err(error) = settle(&dm, &path) {
            tell!("{error}");
            failed += 1;
        }
    }
    if Path::new(STAMP).exists() {
        failed += back(&dm, Since::Later)?;
    } else {
        failed += back(&dm, Since::Boot)?;
        stamp();
    }
    match failed {
        0 => Ok(()),
        failed => Err(DiskError::Layers {
            failed,
            all: config.entries.len().max(failed),
            done: "up",
        }),
    }
}

fn stores() -> Result<Vec<PathBuf>, DiskError> {
    Ok(find::stores()?
        .iter()
        .map(|store| store.device().to_owned())
        .collect())
}

/// Tops that are not layers are somebody else's to start; from the second `up` on they may have been mounted in between.
fn stamp() {
    let made = fs::create_dir_all("/run/freezeframe").and_then(|()| fs::write(STAMP, ""));
    if let Err(error) = made {
        tell!("cannot write {STAMP}: {error}");
    }
}

/// Starts one layer, where it is not up already.
///
/// # Errors
///
/// When it cannot be started, or must not be.
pub fn start(dm: &Dm, entry: &Entry, until: Instant, guard: &Guard) -> Result<(), DiskError> {
    let identity = DmIdentity::layer(&entry.name);
    if let Some(info) = dm.info(&identity.name)? {
        if info.uuid != identity.uuid {
            return Err(refusal(
                "start",
                &entry.name,
                format!("{} is somebody else's", identity.name),
                "see `dmsetup info`",
            ));
        }
        // Up already, on whatever it should be.
        return match guard {
            Guard::Mounted => root::forget_void_marker(dm, &identity.name),
            Guard::Inside(_) => Ok(()),
        };
    }
    let (device, run) = loop {
        match look(dm, entry, &identity.name, guard) {
            Ok(found) => break found,
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(Duration::from_millis(200)),
        }
    };
    let table = match &run {
        None => vec![passthrough(
            size(&device)?,
            blockdev::devno(&device).doing(|| format!("find {}", device.display()))?,
        )],
        Some(run) => table(dm, run)?,
    };
    dm.create(&identity, &table, Role::Layer)?;
    let state = run.as_ref().map_or_else(
        || device.display().to_string(),
        |run| format!("snapshot {} ({})", run.record.id, table[0].kind),
    );
    tell!("{} is up, on {state}", identity.name);
    Ok(())
}

fn size(device: &Path) -> Result<u64, DiskError> {
    fs::File::open(device)
        .and_then(|file| blockdev::sectors(&file))
        .doing(|| format!("find the size of {}", device.display()))
}

/// The layer's device, and the snapshot that it runs on. An error may go away with time, as devices turn up.
fn look(dm: &Dm, entry: &Entry, top: &str, guard: &Guard) -> Result<(PathBuf, Option<Run>), DiskError> {
    if blockdev::devno(&entry.device).is_err() {
        return Err(refusal(
            "start",
            &entry.name,
            format!("{} is not there", entry.device.display()),
            format!(
                "attach it, or remove the layer with `freezeframe layer remove {}`",
                entry.name
            ),
        ));
    }
    let stores = find::stores()?;
    let mut runs: Vec<_> = stores.iter().flat_map(|store| runs(store, top)).collect();
    if runs.len() > 1 {
        return Err(refusal(
            "start",
            &entry.name,
            format!(
                "it runs on the snapshots {} and {}",
                runs[0].record.id, runs[1].record.id
            ),
            "one of the stores is an old copy: detach that",
        ));
    }
    let run = runs.pop();
    let run = match guard {
        Guard::Mounted => {
            if run.is_none()
                && let Some(marker) = marker::read(top).doing(|| format!("read the marker of {top}"))?
            {
                store_is_there(&stores, entry, top, &marker)?;
            }
            run
        }
        Guard::Inside(inside) => match inside.on(dm, entry, run.as_ref().map(|run| &run.record), &stores)? {
            On::Snapshot => run,
            On::Device => None,
        },
    };
    Ok((entry.device.clone(), run))
}

/// Refuses where a marker names a store that is not. Where it is there and does not have the top on a snapshot, that has been
/// merged, or is to be discarded, or is gone.
fn store_is_there(stores: &[Store], entry: &Entry, top: &str, marker: &Marker) -> Result<(), DiskError> {
    let Some(store) = stores.iter().find(|store| store.state().uuid == marker.store) else {
        return Err(without_store(
            entry,
            marker,
            format!(
                "attach the store's disk and call `freezeframe layer up`; to give up what is on it, remove {}/{top}",
                marker::FOLDER
            ),
        ));
    };
    if store.state().record(&marker.id).is_none() {
        marker::remove(top, &marker.id); // void
    }
    Ok(())
}

/// A layer does not start without its store.
pub fn without_store(entry: &Entry, marker: &Marker, remedy: impl Into<String>) -> DiskError {
    refusal(
        "start",
        &entry.name,
        format!(
            "it runs on snapshot {} of the store {}, which is not there, and what was written since would be lost without it",
            marker.id, marker.store
        ),
        remedy,
    )
}

/// The snapshots of a store that a top runs on.
fn runs(store: &Store, top: &str) -> Vec<Run> {
    runs_of(&store.state().snapshots, top, content(store.device()))
        .map(|(record, index)| Run {
            store: store.device().to_owned(),
            record: record.clone(),
            index,
        })
        .collect()
}

fn runs_of<'a>(
    records: &'a [Record],
    top: &'a str,
    look: impl Fn(&DeviceRecord) -> io::Result<Content>,
) -> impl Iterator<Item = (&'a Record, usize)> {
    records.iter().filter_map(move |record| {
        let runs = |device: &DeviceRecord| device.top == top && !device.merged;
        let index = record.devices.iter().position(runs)?;
        let is_run = match record.state {
            State::Active | State::Merging => true,
            State::Armed => armed::switched(record, &look),
            State::Discarding => false,
        };
        is_run.then_some((record, index))
    })
}

/// Looks into the slices of a store.
fn content(store: &Path) -> impl Fn(&DeviceRecord) -> io::Result<Content> {
    |device| exceptions::look(store, &device.extents)
}

/// The table that goes with the record; the record is set right first.
fn table(dm: &Dm, run: &Run) -> Result<Vec<crate::disk::record::TableLine>, DiskError> {
    let kind = match run.record.state {
        State::Merging => "snapshot-merge",
        State::Armed => {
            let mut store = Store::lock(&run.store)?;
            armed::adopt(store.record_mut(&run.record.id)?);
            store.write()?;
            "snapshot"
        }
        State::Active | State::Discarding => "snapshot",
    };
    live::snapshot_table(dm, &run.store, &run.record, run.index, kind)
}

/// Forgets the records that say that they may be, and sets those right that a take left behind its switch.
fn settle(dm: &Dm, path: &Path) -> Result<(), DiskError> {
    let mut store = Store::lock(path)?;
    for record in store.state().snapshots.clone() {
        let live = live::all(dm, &record)?;
        if armed::switched(&record, content(path)) {
            armed::adopt(store.record_mut(&record.id)?);
            store.write()?;
            tell!(
                "snapshot {} is active: its take was cut off behind the switch",
                record.id
            );
            continue;
        }
        let done = matches!(record.state, State::Discarding | State::Armed);
        if done && !live.contains(&Live::Snapshot) && !live.contains(&Live::Merging) {
            if let Err(error) = store.alone() {
                tell!("{error}");
                return Ok(());
            }
            discard::drop_record(dm, &mut store, &record, &live)?;
            tell!("snapshot {} is gone: it was {}", record.id, record.state);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::runs_of;
    use crate::disk::exceptions::Content;
    use crate::disk::record::State;
    use crate::disk::record::tests::record_of_two;

    #[test]
    fn a_top_runs_on_a_slice_that_is_empty_where_another_of_its_snapshot_is_not() {
        let records = [record_of_two(State::Armed)];
        let runs = |top, written: &str| {
            let look = |device: &crate::disk::record::DeviceRecord| {
                Ok(match device.top == written {
                    true => Content::Changes,
                    false => Content::Nothing,
                })
            };
            runs_of(&records, top, look)
                .map(|(_, index)| index)
                .collect::<Vec<_>>()
        };
        assert_eq!(runs("ff-x", "nothing"), [0; 0]);
        assert_eq!(runs("ff-x", "data"), [0]);
        assert_eq!(runs("data", "data"), [1]);
        assert_eq!(runs("ff-y", "data"), [0; 0]);
    }
}
