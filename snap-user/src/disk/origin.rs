//! `freezeframe origin`: the frozen origin, for a backup tool or to look at.
//!
//! It is never mounted itself: a mount may write (a journal's replay), and the origin is what the snapshot stands on. ext4 and
//! btrfs are mounted through a read-only device; a frozen xfs has a log to be replayed, so it is mounted through a
//! snapshot of its own, whose store is thrown away.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount as mount_call, unmount as unmount_call};
use serde::Serialize;

use crate::disk::blockdev::{self, SECTOR};
use crate::disk::dm::{Dm, Role};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::live::{self, Live};
use crate::disk::mounts::mounts;
use crate::disk::record::{DeviceRecord, Record, State, TableLine};
use crate::disk::store::Store;
use crate::disk::{find, loopdev, probe};

/// What the frozen filesystem is mounted through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A read-only device where the filesystem can do with one.
    ReadOnly,
    /// A snapshot of the origin, which takes what the mount writes.
    Snapshot,
}

/// A frozen origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frozen {
    /// The top that it is of.
    pub top: String,
    /// Its device.
    pub path: PathBuf,
}

/// The frozen origins of a snapshot.
///
/// # Errors
///
/// When it is not active: then there is no frozen origin.
pub fn paths(prefix: &str) -> Result<Vec<Frozen>, DiskError> {
    let (store, id) = find::snapshot(prefix)?;
    let dm = Dm::open()?;
    let record = active(&dm, &Store::open(&store)?, &id)?;
    record
        .devices
        .iter()
        .enumerate()
        .map(|(index, device)| {
            Ok(Frozen {
                top: device.top.clone(),
                path: dm.node(&record.origin(index).name)?,
            })
        })
        .collect()
}

fn active(dm: &Dm, store: &Store, id: &str) -> Result<Record, DiskError> {
    let record = store.record(id)?;
    is_frozen(record, &live::all(dm, record)?)?;
    Ok(record.clone())
}

/// Refuses where the origins are not as at the instant.
fn is_frozen(record: &Record, live: &[Live]) -> Result<(), DiskError> {
    let id = record.id.clone();
    let (why, remedy) = match live::effective(record, live) {
        State::Active if live.contains(&Live::Snapshot) => return Ok(()),
        State::Active => (
            "its tops do not run on the store".to_owned(),
            "start the layers with `freezeframe layer up`".to_owned(),
        ),
        State::Armed => (
            "it was never taken".to_owned(),
            format!("clean up with `freezeframe discard {id}`"),
        ),
        State::Merging => (
            "it is being committed, and its origin is neither old nor new".to_owned(),
            format!("finish that with `freezeframe commit {id}`"),
        ),
        State::Discarding => (
            "it is being discarded".to_owned(),
            format!("finish that with `freezeframe discard {id}`"),
        ),
    };
    Err(DiskError::State {
        what: "show the origin of",
        id,
        why,
        remedy,
    })
}

/// Mounts a frozen origin read-only. `wanted`: a mount point or a top, where there are several.
///
/// # Errors
///
/// When the snapshot is not active, or the mount fails; nothing is left of it then.
pub fn mount(prefix: &str, point: &Path, wanted: Option<&str>, view: View) -> Result<(), DiskError> {
    let (store, id) = find::snapshot(prefix)?;
    let dm = Dm::open()?;
    // Locked until it is mounted: a commit looks for the view, under the lock too, before it changes the origin.
    let store = Store::lock(&store)?;
    let record = active(&dm, &store, &id)?;
    let index = choose(&record, wanted)?;
    let device = &record.devices[index];
    let origin = dm.node(&record.origin(index).name)?;
    let kind = match &device.filesystem {
        Some(filesystem) => filesystem.kind.clone(),
        None => probe::filesystem(&origin)
            .map(|(kind, _)| kind)
            .unwrap_or_default(),
    };
    let identity = record.view(index);
    if let Some(info) = dm.info(&identity.name)? {
        let place = live::mounts_of(info.devno)?.into_iter().next();
        return Err(DiskError::Busy {
            what: format!("mount the frozen {kind} of {}", device.top),
            top: identity.name.clone(),
            user: "shows it already".to_owned(),
            remedy: match place {
                Some(place) => format!(
                    "unmount it with `freezeframe origin {} --unmount {}`",
                    record.id,
                    place.point.display()
                ),
                None => format!("remove that with `dmsetup remove {}`", identity.name),
            },
        });
    }
    let line = |kind: &str, params: String| {
        [TableLine {
            start: 0,
            sectors: device.sectors,
            kind: kind.to_owned(),
            params,
        }]
    };
    if view == View::ReadOnly && reads_without_writing(&kind) {
        dm.create(
            &identity,
            &line("linear", format!("{} 0", dm.devno(&record.origin(index).name)?)),
            Role::ReadOnlyPart,
        )?;
    } else {
        let scratch = loopdev::throwaway(device.sectors * SECTOR)
            .doing(|| "make a loop device for what the mount writes".to_owned())?;
        let below = blockdev::devno(&scratch.path).doing(|| format!("find {}", scratch.path.display()))?;
        let params = format!("{} {below} N 8", dm.devno(&record.origin(index).name)?);
        dm.create(&identity, &line("snapshot", params), Role::Part)?;
    }
    let mounted = mount_view(&dm.node(&identity.name)?, point, &kind, device);
    if mounted.is_err() {
        // The mount's error is the one to tell.
        let _ = dm.remove(&identity.name);
    }
    mounted
}

fn reads_without_writing(kind: &str) -> bool {
    matches!(
        kind,
        "ext2" | "ext3" | "ext4" | "btrfs" | "vfat" | "erofs" | "squashfs"
    )
}

fn options(kind: &str) -> Option<CString> {
    let text = match kind {
        "ext3" | "ext4" => "noload", // the journal need not be replayed: a frozen filesystem is whole
        "xfs" => "nouuid",           // the live one has it
        _ => return None,
    };
    CString::new(text).ok()
}

fn mount_view(view: &Path, point: &Path, kind: &str, device: &DeviceRecord) -> Result<(), DiskError> {
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    mount_call(view, point, kind, flags, options(kind).as_deref()).map_err(|errno| {
        let remedy = match (kind, errno) {
            ("btrfs", rustix::io::Errno::EXIST) => {
                "this kernel does not mount a btrfs beside another of the same uuid (6.7 and later do): unmount the live one first, or give the device itself to a backup tool"
            }
            (_, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => "name a folder that exists",
            (_, rustix::io::Errno::NODEV) => "load the filesystem's module with `modprobe`",
            _ => "`dmesg` may tell more; try --view, which lets the mount write to a snapshot of the origin",
        };
        DiskError::Mount {
            kind: kind.to_owned(),
            top: device.top.clone(),
            point: point.to_owned(),
            cause: errno.into(),
            remedy: remedy.to_owned(),
        }
    })
}

fn choose(record: &Record, wanted: Option<&str>) -> Result<usize, DiskError> {
    let names = |device: &DeviceRecord, wanted: &str| {
        let mount = device
            .filesystem
            .as_ref()
            .map(|filesystem| filesystem.mount.as_str());
        device.top == wanted.trim_start_matches("/dev/mapper/") || mount == Some(wanted)
    };
    let found = match wanted {
        None if record.devices.len() == 1 => Some(0),
        None => None,
        Some(wanted) => record.devices.iter().position(|device| names(device, wanted)),
    };
    found.ok_or_else(|| {
        let tops: Vec<_> = record
            .devices
            .iter()
            .map(|device| match &device.filesystem {
                Some(filesystem) => format!("{} ({})", device.top, filesystem.mount),
                None => device.top.clone(),
            })
            .collect();
        let (id, tops) = (record.id.clone(), tops.join(", "));
        match wanted.map(ToOwned::to_owned) {
            Some(wanted) => DiskError::NoDevice { wanted, id, tops },
            None => DiskError::Several { id, tops },
        }
    })
}

/// Unmounts what [`mount`] mounted, and removes what it was mounted through.
///
/// # Errors
///
/// When it is no such mount, or in use.
pub fn unmount(prefix: &str, point: &Path) -> Result<(), DiskError> {
    let (_, id) = find::snapshot(prefix)?;
    let dm = Dm::open()?;
    let point = point
        .canonicalize()
        .doing(|| format!("find {}", point.display()))?;
    let ours = format!("ff-view-{id}-");
    let all = mounts().doing(|| "read /proc/self/mountinfo".to_owned())?;
    let view = all
        .iter()
        .rev() // the one on top
        .find(|mount| mount.point == point)
        .and_then(|mount| blockdev::dm_name(mount.devno).or_else(|| name_of(&mount.source)))
        .filter(|name| name.starts_with(&ours))
        .ok_or_else(|| DiskError::NoView(point.clone()))?;
    unmount_call(&point, UnmountFlags::empty()).doing(|| format!("unmount {}", point.display()))?;
    dm.remove(&view)?;
    Ok(())
}

/// Of a filesystem with an anonymous number.
fn name_of(source: &str) -> Option<String> {
    blockdev::dm_name(blockdev::devno(Path::new(source)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::{choose, is_frozen, options, reads_without_writing};
    use crate::disk::live::Live;
    use crate::disk::record::tests::record;
    use crate::disk::record::{FsRecord, State};

    #[test]
    fn an_origin_is_shown_only_while_it_is_frozen() {
        let mut record = record("00c0ffee", &[]);
        assert!(is_frozen(&record, &[Live::Snapshot]).is_ok());
        assert!(is_frozen(&record, &[Live::Old]).is_err());
        for (state, says) in [
            (State::Merging, "neither old nor new"),
            (State::Discarding, "being discarded"),
        ] {
            record.state = state;
            let error = is_frozen(&record, &[Live::Snapshot]).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_device_is_named_by_mount_point_or_top() {
        let mut record = record("00c0ffee", &[]);
        assert_eq!(choose(&record, None).unwrap(), 0);
        let mut second = record.devices[0].clone();
        second.top = "ff-y".to_owned();
        second.filesystem = Some(FsRecord {
            kind: "xfs".to_owned(),
            uuid: String::new(),
            mount: "/srv".to_owned(),
        });
        record.devices.push(second);
        assert_eq!(choose(&record, Some("/srv")).unwrap(), 1);
        assert_eq!(choose(&record, Some("/dev/mapper/ff-x")).unwrap(), 0);
        let error = choose(&record, None).unwrap_err().to_string();
        assert!(error.contains("several devices: ff-x, ff-y (/srv);"), "{error}");
    }

    #[test]
    fn only_xfs_needs_to_write() {
        assert!(reads_without_writing("ext4"));
        assert!(!reads_without_writing("xfs"));
        assert_eq!(options("xfs").unwrap().to_str(), Ok("nouuid"));
        assert_eq!(options("btrfs"), None);
    }
}
