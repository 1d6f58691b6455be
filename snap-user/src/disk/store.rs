//! A store: a block device that takes what is written to the tops while there are snapshots of them.
//!
//! It describes itself, so that it needs no filesystem and is found again after a crash: two header slots ([`slot`]), and
//! from 1 MiB on the slices of the snapshots.

mod error;
mod format;
mod room;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::disk::blockdev;
use crate::disk::record::{Extent, Record, StoreState, full_store_sectors, store_capacity_sectors};
use crate::disk::slot::{self, Found};

pub use error::StoreError;
pub use room::{ALIGN, Origin, Slice};
use room::{gaps, sizes, take};

/// A store, opened.
#[derive(Debug)]
pub struct Store {
    device: PathBuf,
    file: File,
    state: StoreState,
    sequence: u64,
}

/// How a device is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// To look.
    Read,
    /// To change: nobody else does meanwhile.
    Locked,
}

impl Store {
    /// Opens a store to look at it. What is read may be old the next moment; see [`Store::lock`].
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be read.
    pub fn open(device: &Path) -> Result<Self, StoreError> {
        Self::opened(device, open(device, Access::Read)?)
    }

    /// Opens a store to change it, and waits until nobody else does. Held until it is dropped.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn lock(device: &Path) -> Result<Self, StoreError> {
        Self::opened(device, open(device, Access::Locked)?)
    }

    fn opened(device: &Path, file: File) -> Result<Self, StoreError> {
        let failed = |cause| StoreError::Open {
            device: device.to_owned(),
            cause,
        };
        match slot::read(&file).map_err(failed)? {
            Found::State(state, sequence) => {
                let is = blockdev::sectors(&file).map_err(failed)?;
                if is < state.sectors {
                    return Err(StoreError::Shrunk {
                        device: device.to_owned(),
                        was: state.sectors,
                        is,
                    });
                }
                let mut state = *state;
                state.sectors = is; // it may have grown
                Ok(Self {
                    device: device.to_owned(),
                    file,
                    state,
                    sequence,
                })
            }
            Found::Former(state) => {
                let ids: Vec<_> = state.snapshots.iter().map(|record| record.id.as_str()).collect();
                Err(StoreError::Former {
                    device: device.to_owned(),
                    snapshots: ids.join(", "),
                })
            }
            Found::Nothing => Err(StoreError::NotOurs(device.to_owned())),
            Found::Damaged => Err(StoreError::Damaged(device.to_owned())),
            Found::Newer(version) => Err(StoreError::Newer {
                device: device.to_owned(),
                version,
            }),
        }
    }

    /// Writes the state to disk; it is there when this returns. Only for one that was locked.
    ///
    /// # Errors
    ///
    /// When the disk does not take it. What is on it then is the state before, or this one.
    pub fn write(&mut self) -> Result<(), StoreError> {
        let sequence = self.sequence + 1;
        let encoded =
            slot::encode(&self.state, sequence).ok_or_else(|| StoreError::HeaderFull(self.device.clone()))?;
        slot::write(&self.file, &encoded, sequence).map_err(|cause| StoreError::Write {
            device: self.device.clone(),
            cause,
        })?;
        self.sequence = sequence;
        Ok(())
    }

    /// The device, as it was named to us.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The device, open.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What it holds.
    #[must_use]
    pub fn state(&self) -> &StoreState {
        &self.state
    }

    /// What it holds, to change it; [`Store::write`] makes that last.
    pub fn state_mut(&mut self) -> &mut StoreState {
        &mut self.state
    }

    /// A snapshot by its whole ID.
    ///
    /// # Errors
    ///
    /// When it is not there (any more).
    pub fn record(&self, id: &str) -> Result<&Record, StoreError> {
        self.state.record(id).ok_or_else(|| self.gone(id))
    }

    /// The same, to change it.
    ///
    /// # Errors
    ///
    /// When it is not there (any more).
    pub fn record_mut(&mut self, id: &str) -> Result<&mut Record, StoreError> {
        let gone = self.gone(id);
        self.state.record_mut(id).ok_or(gone)
    }

    fn gone(&self, id: &str) -> StoreError {
        StoreError::Gone {
            device: self.device.clone(),
            id: id.to_owned(),
        }
    }

    /// The pieces that no snapshot has, in order, in whole MiB.
    #[must_use]
    pub fn free(&self) -> Vec<Extent> {
        let mut used: Vec<_> = self
            .state
            .snapshots
            .iter()
            .flat_map(|record| &record.devices)
            .flat_map(|device| device.extents.iter().copied())
            .collect();
        used.sort_unstable();
        gaps(&used, self.state.sectors)
    }

    /// Sectors that no snapshot has.
    #[must_use]
    pub fn free_sectors(&self) -> u64 {
        self.free().iter().map(|gap| gap.sectors).sum()
    }

    /// Finds room for one slice; it is taken when it stands in a record.
    ///
    /// # Errors
    ///
    /// When there is not as much.
    pub fn allocate(&self, sectors: u64) -> Result<Vec<Extent>, StoreError> {
        take(&mut self.free(), sectors).ok_or_else(|| self.full(sectors))
    }

    /// Finds room for a slice per origin: so much that none can overflow, where that fits; else what there is, shared by the
    /// origins' sizes.
    ///
    /// # Errors
    ///
    /// When there is next to nothing left.
    pub fn allot(&self, origins: &[Origin]) -> Result<Vec<Slice>, StoreError> {
        let mut free = self.free();
        let room: u64 = free.iter().map(|gap| gap.sectors).sum();
        let wanted = sizes(origins, room).ok_or_else(|| self.full(ALIGN * origins.len() as u64))?;
        origins
            .iter()
            .zip(wanted)
            .map(|(origin, sectors)| {
                let extents = take(&mut free, sectors).ok_or_else(|| self.full(sectors))?;
                let got: u64 = extents.iter().map(|extent| extent.sectors).sum();
                let full = full_store_sectors(origin.sectors, origin.chunk_sectors);
                Ok(Slice {
                    extents,
                    overflows_after: (got < full).then(|| store_capacity_sectors(got, origin.chunk_sectors)),
                })
            })
            .collect()
    }

    fn full(&self, wanted: u64) -> StoreError {
        StoreError::Full {
            device: self.device.clone(),
            free: self.free_sectors(),
            wanted,
        }
    }
}

/// Opens by the kernel's own node: a lock belongs to a node, and a device may have several.
fn open(device: &Path, access: Access) -> Result<File, StoreError> {
    let failed = |cause| StoreError::Open {
        device: device.to_owned(),
        cause,
    };
    let path = match blockdev::devno(device) {
        Ok(devno) => blockdev::kernel_node(devno)
            .filter(|node| blockdev::devno(node).is_ok_and(|found| found == devno))
            .unwrap_or_else(|| device.to_owned()),
        // A plain file, for tests.
        Err(_) if cfg!(test) => device.to_owned(),
        Err(cause) => return Err(failed(cause)),
    };
    let file = File::options()
        .read(true)
        .write(access == Access::Locked)
        .open(path)
        .map_err(failed)?;
    if access == Access::Locked {
        lock_exclusively(&file, device).map_err(|errno| failed(errno.into()))?;
    }
    Ok(file)
}

/// Waits as long as it takes, and says so when it takes longer than udev, which locks devices too while it looks at them.
fn lock_exclusively(file: &File, device: &Path) -> Result<(), Errno> {
    for _ in 0..20 {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(Duration::from_millis(50)),
            other => return other,
        }
    }
    tell!("waiting for another command that changes {}", device.display());
    loop {
        match flock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use tempfile::NamedTempFile;

    use super::{ALIGN, Access, Origin, Store, StoreError, open};
    use crate::disk::record::Extent;
    use crate::disk::record::tests::record;

    pub(crate) fn blank(mib: u64) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(mib << 20).unwrap();
        file
    }

    pub(crate) fn create(path: &Path) -> Store {
        Store::create(path, open(path, Access::Locked).unwrap()).unwrap()
    }

    fn extent(mib: u64, mibs: u64) -> Extent {
        Extent {
            start: mib * ALIGN,
            sectors: mibs * ALIGN,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = blank(16);
        assert!(matches!(Store::open(file.path()), Err(StoreError::NotOurs(_))));
        let mut store = create(file.path());
        for id in ["0000000a", "0000000b"] {
            let extents = store.allocate(2 * ALIGN).unwrap();
            store.state_mut().snapshots.push(record(id, &extents));
            store.write().unwrap();
        }
        let uuid = store.state().uuid.clone();
        drop(store);
        let mut store = Store::lock(file.path()).unwrap();
        assert_eq!(store.state().uuid, uuid);
        assert_eq!(
            store.record("0000000b").unwrap().devices[0].extents,
            [extent(3, 2)]
        );
        store.state_mut().remove("0000000b");
        store.write().unwrap();
        let store = Store::open(file.path()).unwrap();
        assert!(matches!(store.record("0000000b"), Err(StoreError::Gone { .. })));
        assert!(store.record("0000000a").is_ok());
    }

    #[test]
    fn a_lock_is_for_one() {
        let file = blank(16);
        let store = create(file.path());
        let other = File::open(file.path()).unwrap();
        let lock = || rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        assert!(lock().is_err());
        drop(store);
        assert!(lock().is_ok());
    }

    #[test]
    fn room_is_found_first_fit_in_whole_mib() {
        let file = blank(16);
        let mut store = create(file.path());
        assert_eq!(store.free(), [extent(1, 15)]);
        assert_eq!(store.allocate(1).unwrap(), [extent(1, 1)]);
        assert!(matches!(
            store.allocate(16 * ALIGN),
            Err(StoreError::Full { free, .. }) if free == 15 * ALIGN
        ));
        let used = [extent(2, 2), extent(6, 4)];
        store.state_mut().snapshots.push(record("0000000a", &used));
        assert_eq!(store.free(), [extent(1, 1), extent(4, 2), extent(10, 6)]);
        assert_eq!(store.allocate(2 * ALIGN).unwrap(), [extent(4, 2)]);
        assert_eq!(
            store.allocate(8 * ALIGN).unwrap(),
            [extent(1, 1), extent(4, 2), extent(10, 5)]
        );
    }

    #[test]
    fn slices_are_full_where_they_fit_and_shared_where_not() {
        let file = blank(64);
        let store = create(file.path());
        let origin = |mib: u64| Origin {
            sectors: mib * ALIGN,
            chunk_sectors: 8,
        };
        let slices = store.allot(&[origin(20), origin(10)]).unwrap();
        assert!(slices.iter().all(|slice| slice.overflows_after.is_none()));
        assert_eq!(slices[0].extents, [extent(1, 21)]);
        assert_eq!(slices[1].extents, [extent(22, 11)]);
        let slices = store.allot(&[origin(200), origin(100)]).unwrap();
        assert_eq!(slices[0].extents, [extent(1, 41)]);
        assert_eq!(slices[1].extents, [extent(42, 21)]);
        let after = slices[1].overflows_after.unwrap();
        assert!(after < 21 * ALIGN && after > 20 * ALIGN, "{after}");
        assert!(store.allot(&[origin(1); 70]).is_err());
    }

    #[test]
    fn a_device_may_grow_and_not_shrink() {
        let file = blank(16);
        drop(create(file.path()));
        file.as_file().set_len(32 << 20).unwrap();
        let mut store = Store::lock(file.path()).unwrap();
        assert_eq!(store.free(), [extent(1, 31)]);
        store.write().unwrap();
        drop(store);
        file.as_file().set_len(16 << 20).unwrap();
        assert!(matches!(Store::open(file.path()), Err(StoreError::Shrunk { .. })));
    }

    #[test]
    fn damage_is_told() {
        let file = blank(16);
        drop(create(file.path()));
        for slot in [0, 64 << 10] {
            // Whatever is there: part of it is random.
            let mut byte = [0];
            file.as_file().read_exact_at(&mut byte, slot + 50).unwrap();
            file.as_file().write_all_at(&[!byte[0]], slot + 50).unwrap();
        }
        assert!(matches!(Store::lock(file.path()), Err(StoreError::Damaged(_))));
        let small = blank(1);
        let error = Store::create(small.path(), open(small.path(), Access::Locked).unwrap()).unwrap_err();
        assert!(matches!(error, StoreError::TooSmall { .. }), "{error}");
    }
}
