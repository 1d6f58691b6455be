//! What a take sets up on the store before the stop, and what becomes of it after: an active snapshot, or nothing.

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use snap_common::abi;

use crate::disk::ask::Wish;
use crate::disk::choose::Chosen;
use crate::disk::commit::{Progress, commit_on};
use crate::disk::dm::{Dm, DmError};
use crate::disk::error::DiskError;
use crate::disk::exceptions;
use crate::disk::live;
use crate::disk::marker;
use crate::disk::plan::Top;
use crate::disk::probe;
use crate::disk::record::{AtShutdown, DeviceRecord, FsRecord, Record, State, TableLine, new_id};
use crate::disk::store::{Origin, Slice, Store, StoreError};
use crate::disk::table;

/// Why the store was not set up. What was begun is undone.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The device mapper.
    #[error(transparent)]
    Dm(#[from] DmError),
    /// The devices.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A slice cannot be cleared.
    #[error("cannot write to the store {}: {cause}; look at the disk (`dmesg`)", device.display())]
    Blank {
        /// The store's device.
        device: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The mark that keeps a layer from being started without its store cannot be written.
    #[error(
        "cannot note on disk that {top} has a snapshot: {cause}; check {}",
        marker::FOLDER
    )]
    Marker {
        /// The device.
        top: String,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// A snapshot that is about to be: its record says `armed`, and its devices are there. When it is dropped, all of that goes.
#[derive(Debug)]
pub struct Armed {
    store: Store,
    dm: Dm,
    id: String,
    tops: Vec<Top>,
    slices: Vec<Slice>,
    at_shutdown: AtShutdown,
    settled: bool,
}

impl Armed {
    /// Sets the store up.
    ///
    /// # Errors
    ///
    /// When the store cannot be used, or the device mapper refuses.
    pub fn new(
        dm: Dm,
        mut store: Store,
        chosen: &[Chosen],
        tops: Vec<Top>,
        wish: &Wish,
        pids: &[i32],
    ) -> Result<Self, ArmError> {
        let origins: Vec<_> = tops
            .iter()
            .map(|top| Origin {
                sectors: top.sectors,
                chunk_sectors: wish.chunk_sectors.unwrap_or(top.chunk_sectors),
            })
            .collect();
        let slices = store.allot(&origins)?;
        let devices = tops.iter().zip(&origins).zip(&slices);
        let devices = devices.map(|((top, origin), slice)| DeviceRecord {
            top: top.name.clone(),
            top_uuid: top.uuid.clone(),
            sectors: top.sectors,
            chunk_sectors: origin.chunk_sectors,
            table: table::lasting(&top.table),
            extents: slice.extents.clone(),
            filesystem: Some(filesystem(&chosen[top.filesystem])),
            merged: false,
        });
        let id = announce(&mut store, devices.collect(), pids)?;
        let armed = Self {
            store,
            dm,
            id,
            tops,
            slices,
            at_shutdown: wish.at_shutdown,
            settled: false,
        };
        armed.make_devices()?;
        Ok(armed)
    }

    fn make_devices(&self) -> Result<(), ArmError> {
        let record = self.store.record(&self.id)?;
        for (index, device) in record.devices.iter().enumerate() {
            live::parts(&self.dm, self.store.device(), record, index)?;
            marker::write(&device.top, &self.store.state().uuid, &self.id).map_err(|cause| {
                ArmError::Marker {
                    top: device.top.clone(),
                    cause,
                }
            })?;
        }
        Ok(())
    }

    /// The snapshot's ID.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The devices, in the order of [`Armed::switches`].
    #[must_use]
    pub fn tops(&self) -> &[Top] {
        &self.tops
    }

    /// What each may write before it overflows.
    #[must_use]
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// The control device, for the module.
    #[must_use]
    pub fn dm(&self) -> &Dm {
        &self.dm
    }

    /// What the module is to load and switch to.
    ///
    /// # Errors
    ///
    /// When the devices are gone.
    pub fn switches(&self) -> Result<Vec<abi::Switch>, ArmError> {
        let record = self.store.record(&self.id)?;
        let mut switches = Vec::new();
        for (index, (top, device)) in self.tops.iter().zip(&record.devices).enumerate() {
            let origin = self.dm.devno(&record.origin(index).name)?;
            let store = self.dm.devno(&record.store(index).name)?;
            switches.push(switch(top, &device.snapshot_table("snapshot", origin, store)));
        }
        Ok(switches)
    }

    /// The module has switched devices: from here on it is a snapshot.
    ///
    /// # Errors
    ///
    /// When the store does not take the record; it says `armed` then, which with switched devices counts as active.
    pub fn activate(&mut self, instant_unix_ns: u64) -> Result<Taken, ArmError> {
        self.settled = true;
        let record = self.store.record_mut(&self.id)?;
        record.state = State::Active;
        record.instant_unix_ns = instant_unix_ns;
        self.store.write()?;
        Ok(Taken {
            id: self.id.clone(),
            store: self.store.device().to_owned(),
            at_shutdown: self.at_shutdown,
            settled: false,
        })
    }

    fn undo(&mut self) -> Result<(), ArmError> {
        let record = self.store.record(&self.id)?.clone();
        live::remove_parts(&self.dm, &record)?;
        for top in &self.tops {
            marker::remove(&top.name, &self.id);
        }
        self.store.state_mut().remove(&self.id);
        self.store.write()?;
        Ok(())
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if let Err(error) = self.undo() {
            tell!(
                "cannot clean up after the snapshot {}: {error}; `freezeframe discard {}` does",
                self.id,
                self.id
            );
        }
    }
}

/// A snapshot whose take is not over yet.
#[derive(Debug)]
pub struct Taken {
    id: String,
    store: PathBuf,
    at_shutdown: AtShutdown,
    settled: bool,
}

impl Taken {
    /// It stays, and becomes at shutdown what the user wants.
    ///
    /// # Errors
    ///
    /// When the store does not take the record; then it survives.
    pub fn keep(mut self) -> anyhow::Result<()> {
        self.settled = true;
        if self.at_shutdown != AtShutdown::Keep {
            let mut store = Store::lock(&self.store)?;
            store.record_mut(&self.id)?.at_shutdown = self.at_shutdown;
            store.write()?;
        }
        Ok(())
    }

    /// Nothing is to be left of it, and nothing of what was written since is lost.
    ///
    /// # Errors
    ///
    /// When it cannot be merged; `freezeframe commit` can be tried again.
    pub fn merge_back(mut self) -> anyhow::Result<()> {
        self.settled = true;
        commit_on(&self.store, &self.id, Progress::Silent)
            .map(drop)
            .with_context(|| format!("the disk's snapshot {} stays", self.id))
    }
}

/// A take that was interrupted leaves nothing, and loses nothing.
impl Drop for Taken {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        tell!("merging the disk's snapshot {} back", self.id);
        let merge = || commit_on(&self.store, &self.id, Progress::Silent);
        // It may take a while, and a daemon has others to serve.
        let merged = match tokio::runtime::Handle::try_current() {
            Ok(_) => tokio::task::block_in_place(merge),
            Err(_) => merge(),
        };
        if let Err(error) = merged {
            tell!("{error}; try `freezeframe commit {}`", self.id);
        }
    }
}

/// Writes the record, which says `armed`. Its ID.
///
/// The slices are cleared before that, and last: at boot, an armed snapshot whose slice is not empty counts as one that was
/// switched. It survives a shutdown until [`Taken::keep`] says what the user wants: a take that fails or dies with its devices
/// switched must not lose what was written since.
fn announce(store: &mut Store, devices: Vec<DeviceRecord>, pids: &[i32]) -> Result<String, ArmError> {
    let clear =
        |device: &DeviceRecord| exceptions::clear(store.file(), &device.extents, device.chunk_sectors);
    let cleared = devices.iter().try_for_each(clear);
    cleared
        .and_then(|()| store.file().sync_data())
        .map_err(|cause| ArmError::Blank {
            device: store.device().to_owned(),
            cause,
        })?;
    let id = new_id();
    store.state_mut().snapshots.push(Record {
        id: id.clone(),
        state: State::Armed,
        created_unix_ms: unix_ms(),
        instant_unix_ns: 0,
        targets: pids.to_vec(),
        at_shutdown: AtShutdown::Keep,
        devices,
    });
    store.write()?;
    Ok(id)
}

fn filesystem(chosen: &Chosen) -> FsRecord {
    let uuid =
        crate::disk::blockdev::kernel_node(chosen.devices[0]).and_then(|node| probe::filesystem(&node));
    FsRecord {
        kind: chosen.mount.kind.clone(),
        uuid: uuid.map(|(_, uuid)| uuid).unwrap_or_default(),
        mount: chosen.mount.point.display().to_string(),
    }
}

fn switch(top: &Top, line: &TableLine) -> abi::Switch {
    // SAFETY: `struct ff_switch` is made of integers alone; all zeros is a valid one.
    let mut switch: abi::Switch = unsafe { std::mem::zeroed() };
    switch.dev = u64::from(top.devno);
    switch.sectors = line.sectors;
    switch.fs = u32::try_from(top.filesystem).unwrap_or(u32::MAX);
    let params = line.params.as_bytes();
    let room = switch.params.len() - 1; // two numbers of devices and a chunk always fit
    let length = params.len().min(room);
    switch.params[..length].copy_from_slice(&params[..length]);
    switch
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use super::{ArmError, Taken, announce};
    use crate::disk::exceptions::{self, Content};
    use crate::disk::marker;
    use crate::disk::record::tests::record;
    use crate::disk::record::{AtShutdown, DeviceRecord, Extent, State};
    use crate::disk::store::tests::{blank, create};
    use crate::disk::store::{ALIGN, Store, StoreError};

    /// A device whose slice is where an earlier snapshot has left what was written to it.
    fn device(store: &Path) -> DeviceRecord {
        let extent = Extent {
            start: ALIGN,
            sectors: ALIGN,
        };
        let file = File::options().write(true).open(store).unwrap();
        file.write_all_at(b"SnAp\x01\0\0\0\x01\0\0\0\x08\0\0\0", 1 << 20)
            .unwrap();
        file.write_all_at(&[2; 16], (1 << 20) + 4096).unwrap();
        let device = record("00c0ffee", &[extent]).devices.remove(0);
        assert_eq!(
            exceptions::content(&File::open(store).unwrap(), &device.extents).unwrap(),
            Content::Changes
        );
        device
    }

    #[test]
    fn a_slice_is_empty_before_a_record_names_it() {
        let file = blank(16);
        let mut store = create(file.path());
        let device = device(file.path());
        // So many that the header has no room: the record is not written, and what comes before it is.
        store.state_mut().snapshots = vec![record("0000000a", &[]); 1000];
        let error = announce(&mut store, vec![device.clone()], &[]).unwrap_err();
        assert!(
            matches!(error, ArmError::Store(StoreError::HeaderFull(_))),
            "{error}"
        );
        assert_eq!(
            exceptions::content(file.as_file(), &device.extents).unwrap(),
            Content::Nothing
        );
    }

    #[test]
    fn a_snapshot_survives_a_shutdown_until_its_take_is_over() {
        let file = blank(16);
        let mut store = create(file.path());
        let id = announce(&mut store, vec![device(file.path())], &[7]).unwrap();
        drop(store);
        let read = || Store::open(file.path()).unwrap().record(&id).unwrap().clone();
        assert_eq!(
            (read().state, read().at_shutdown, read().targets),
            (State::Armed, AtShutdown::Keep, vec![7])
        );
        for wish in [AtShutdown::Keep, AtShutdown::Discard] {
            let taken = Taken {
                id: id.clone(),
                store: file.path().to_owned(),
                at_shutdown: wish,
                settled: false,
            };
            taken.keep().unwrap();
            assert_eq!(read().at_shutdown, wish);
        }
    }

    #[test]
    fn what_cannot_be_marked_is_told_where() {
        let error = ArmError::Marker {
            top: "ff-x".to_owned(),
            cause: io::ErrorKind::StorageFull.into(),
        };
        assert!(error.to_string().contains(marker::FOLDER), "{error}");
    }
}
