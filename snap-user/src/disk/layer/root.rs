//! The layer that the root filesystem is on: started in the initramfs, and given up as the last thing before the machine goes
//! down.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::blockdev;
use crate::disk::dm::Dm;
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::layer::config::{Config, Entry, PATH};
use crate::disk::layer::peek::Peek;
use crate::disk::layer::refusal;
use crate::disk::layer::up::{self, Guard};
use crate::disk::live::Live;
use crate::disk::mounts::Mount;
use crate::disk::record::{AtShutdown, DmIdentity, Record, State};
use crate::disk::store::Store;
use crate::disk::{find, live, marker};

/// What becomes of a root that has parted from its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostStore {
    /// It does not start.
    Refused,
    /// It starts without: what is on the store is given up.
    GivenUp,
}

/// What the root's layer starts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Its device.
    Device,
    /// The snapshot that a store has of it.
    Snapshot,
}

/// The guard of a root that is not mounted yet.
#[derive(Debug)]
pub struct Inside {
    peek: Peek,
    lost: LostStore,
}

impl Inside {
    /// What the layer starts on, where the stores that are there have this record of it, or none.
    ///
    /// A frozen origin has the marker. Where it is gone, the root was started without its store, and the two have parted.
    ///
    /// # Errors
    ///
    /// When it must not start, or that cannot be told.
    pub fn on(
        &self,
        dm: &Dm,
        entry: &Entry,
        record: Option<&Record>,
        stores: &[Store],
    ) -> Result<On, DiskError> {
        let top = DmIdentity::layer(&entry.name).name;
        let marker = || self.peek.marker(dm, &entry.device, &top);
        let Some(record) = record else {
            if self.lost == LostStore::GivenUp {
                return Ok(On::Device);
            }
            return match marker()? {
                Some(marker) if !stores.iter().any(|store| store.state().uuid == marker.store) => {
                    Err(up::without_store(
                        entry,
                        &marker,
                        "attach the store's disk; to give up what is on it for good, boot once with `ffroot=nostore` on the kernel's \
                     command line",
                    ))
                }
                _ => Ok(On::Device),
            };
        };
        if record.state == State::Merging {
            return Ok(On::Snapshot); // and nothing may look at the origin
        }
        match marker() {
            Ok(marker) if marker.as_ref().is_none_or(|marker| marker.id != record.id) => match self.lost {
                LostStore::GivenUp => Ok(On::Device),
                LostStore::Refused => Err(refusal(
                    "start",
                    &entry.name,
                    format!(
                        "it has been started without its snapshot {id}, and may have been written to since: what the store of {id} \
                         has does not go with it any more",
                        id = record.id
                    ),
                    format!(
                        "boot once with `ffroot=nostore` on the kernel's command line, and give the snapshot up with `freezeframe \
                         discard {}`; or detach the store",
                        record.id
                    ),
                )),
            },
            Ok(_) => Ok(On::Snapshot),
            // The record is reason enough.
            Err(error) => {
                tell!("{error}");
                Ok(On::Snapshot)
            }
        }
    }
}

/// Starts the layer of the root, which the kernel's command line names by the layer's own path or by the device below it, and
/// waits so long for that device and the store. The path to mount; `None`: no layer is configured for it.
///
/// Nothing else is started, and no record forgotten: that is for the `up` on the mounted root.
///
/// # Errors
///
/// When the layer cannot be started, or must not be.
pub fn up(
    root: &Path,
    patience: Duration,
    rootflags: &str,
    lost: LostStore,
) -> Result<Option<PathBuf>, DiskError> {
    let dm = Dm::open()?;
    let Some(entry) = entry(root)? else {
        return Ok(None);
    };
    let inside = Inside {
        peek: Peek::new(rootflags),
        lost,
    };
    up::start(&dm, &entry, Instant::now() + patience, &Guard::Inside(inside))?;
    Ok(Some(dm.node(&DmIdentity::layer(&entry.name).name)?))
}

fn entry(root: &Path) -> Result<Option<Entry>, DiskError> {
    let mut entries = Config::read()?.entries;
    let devno = blockdev::devno(root).ok();
    let wanted = |entry: &Entry| {
        let top = DmIdentity::layer(&entry.name).name;
        root == Path::new("/dev/mapper").join(&top)
            || devno.is_some_and(|root| {
                blockdev::dm_name(root).is_some_and(|name| name == top)
                    || blockdev::devno(&entry.device).is_ok_and(|below| below == root)
            })
    };
    if let Some(index) = entries.iter().position(wanted) {
        return Ok(Some(entries.swap_remove(index)));
    }
    let name = root
        .to_str()
        .and_then(|root| root.strip_prefix("/dev/mapper/ff-"));
    match name {
        None => Ok(None),
        Some(name) => Err(refusal(
            "start",
            name,
            format!("{PATH} has no such layer here"),
            "add it with `freezeframe layer add DEVICE --name NAME --at-boot`, and call `update-initramfs -u`",
        )),
    }
}

/// Whether the root filesystem is on a top.
///
/// # Errors
///
/// When the device mapper does not answer.
pub fn is_on(dm: &Dm, top: &str) -> Result<bool, DiskError> {
    Ok(mounts(dm, top)?.iter().any(|mount| mount.point == Path::new("/")))
}

fn mounts(dm: &Dm, top: &str) -> Result<Vec<Mount>, DiskError> {
    match dm.info(top)? {
        Some(info) => live::mounts_of(info.devno),
        None => Ok(Vec::new()),
    }
}

/// Whether one of a snapshot's tops has the root filesystem.
///
/// # Errors
///
/// When the device mapper does not answer.
pub fn has(dm: &Dm, record: &Record) -> Result<bool, DiskError> {
    for device in &record.devices {
        if is_on(dm, &device.top)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Says of the root's snapshots that are not to be kept that the next start is from the origin. Their tops stay as they are, for
/// the root is still mounted: read-only, for whatever was written from here on would be lost.
///
/// # Errors
///
/// When the root is mounted for writing, or another of the snapshot's tops is mounted.
pub fn down() -> Result<(), DiskError> {
    let dm = Dm::open()?;
    for store in find::stores()? {
        let mut store = Store::lock(store.device())?;
        for record in store.state().snapshots.clone() {
            if record.at_shutdown != AtShutdown::Discard || !has(&dm, &record)? {
                continue;
            }
            if live::effective(&record, &live::all(&dm, &record)?) != State::Active {
                continue;
            }
            for device in &record.devices {
                gives_up(&dm, &device.top, &record.id)?;
            }
            store.record_mut(&record.id)?.state = State::Discarding;
            store.write()?;
            tell!("snapshot {} will be discarded at the next start", record.id);
        }
    }
    Ok(())
}

fn gives_up(dm: &Dm, top: &str, id: &str) -> Result<(), DiskError> {
    let what = || format!("discard {id} at shutdown");
    if !is_on(dm, top)? {
        return live::unused(dm, top, what, |_| "it stays as it is".to_owned());
    }
    let writable = mounts(dm, top)?.into_iter().find(|mount| !read_only(mount));
    match writable {
        None => Ok(()),
        Some(mount) => Err(DiskError::Busy {
            what: what(),
            top: top.to_owned(),
            user: format!("is mounted on {} for writing", mount.point.display()),
            remedy: "mount it read-only first: `mount -o remount,ro /`".to_owned(),
        }),
    }
}

fn read_only(mount: &Mount) -> bool {
    mount.options.split(',').any(|option| option == "ro")
}

/// Forgets the marker of a layer that is up, where it means nothing any more: its store does not know the snapshot, or the layer
/// was started without it. The root's would otherwise stand in the way of the next start.
///
/// # Errors
///
/// When the stores or the marker cannot be read.
pub fn forget_void_marker(dm: &Dm, top: &str) -> Result<(), DiskError> {
    let Some(marker) = marker::read(top).doing(|| format!("read the marker of {top}"))? else {
        return Ok(());
    };
    let stores = find::stores()?;
    let record = stores
        .iter()
        .filter(|store| store.state().uuid == marker.store)
        .find_map(|store| store.state().record(&marker.id));
    let void = match record {
        None => !dm
            .table(top)?
            .iter()
            .any(|line| line.kind.starts_with("snapshot")),
        // Of a take, a commit or a discard it is theirs to remove.
        Some(record) => {
            let index = record.devices.iter().position(|device| device.top == top);
            record.state == State::Active
                && index
                    .is_some_and(|index| live::live(dm, record, index).is_ok_and(|live| live == Live::Old))
        }
    };
    if void {
        marker::remove(top, &marker.id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{entry, read_only};
    use crate::disk::mounts::tests::mount;

    #[test]
    fn a_root_without_a_layer_is_none_of_ours() {
        assert!(matches!(entry(Path::new("/dev/nowhere")), Ok(None)));
        let error = entry(Path::new("/dev/mapper/ff-nowhere"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("update-initramfs"), "{error}");
    }

    #[test]
    fn the_mount_or_the_filesystem_may_be_read_only() {
        let mount = |options| mount("/", "ext4", options);
        assert!(read_only(&mount("ro,relatime,rw")));
        assert!(read_only(&mount("rw,relatime,ro,errors=remount-ro")));
        assert!(!read_only(&mount("rw,relatime,rw,errors=remount-ro")));
    }
}
