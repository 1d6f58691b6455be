//! What lies below what: the devices below a filesystem, and the filesystems below a device (where a loop device's file is).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::disk::blockdev::{self, Devno};
use crate::disk::mounts::{self, Mount};

/// The devices that a filesystem is on: one, but for btrfs. Empty: it has none.
#[must_use]
pub fn devices_of(mount: &Mount) -> Vec<Devno> {
    if mount.kind == "btrfs" {
        return btrfs_devices(mount);
    }
    if mount.devno.major == 0 {
        return Vec::new();
    }
    vec![mount.devno]
}

/// btrfs lists its devices below its uuid, and one of them was mounted.
fn btrfs_devices(mount: &Mount) -> Vec<Devno> {
    let Ok(source) = blockdev::devno(Path::new(&mount.source)) else {
        return Vec::new();
    };
    let filesystems = fs::read_dir("/sys/fs/btrfs").into_iter().flatten().flatten();
    filesystems
        .map(|entry| listed(&entry.path().join("devices")))
        .find(|devices| devices.contains(&source))
        .unwrap_or_else(|| vec![source])
}

/// The devices that a folder of sysfs links to.
fn listed(folder: &Path) -> Vec<Devno> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut devices: Vec<Devno> = entries
        .filter_map(|entry| {
            fs::read_to_string(entry.path().join("dev"))
                .ok()?
                .trim_end()
                .parse()
                .ok()
        })
        .collect();
    devices.sort_by_key(|devno| (devno.major, devno.minor));
    devices
}

/// A device and all that it is made of: what dm and md devices consist of, the disk of a partition.
#[must_use]
pub fn below(device: Devno) -> Vec<Devno> {
    let mut found = vec![device];
    let mut next = 0;
    while let Some(device) = found.get(next).copied() {
        next += 1;
        let parts = listed(&blockdev::sysfs(device).join("slaves"));
        for part in parts.into_iter().chain(disk_of(device)) {
            if !found.contains(&part) {
                found.push(part);
            }
        }
    }
    found
}

/// The disk of a partition.
fn disk_of(device: Devno) -> Option<Devno> {
    let folder = fs::canonicalize(blockdev::sysfs(device)).ok()?;
    folder.join("partition").exists().then_some(())?;
    let text = fs::read_to_string(folder.parent()?.join("dev")).ok()?;
    text.trim_end().parse().ok()
}

/// The file behind a loop device.
fn backing_file(device: Devno) -> Option<PathBuf> {
    let mut path = fs::read(blockdev::sysfs(device).join("loop/backing_file")).ok()?;
    path.pop_if(|last| *last == b'\n');
    Some(PathBuf::from(OsString::from_vec(path)))
}

/// The files that a device rests on, where there are loop devices below it.
fn files_below(device: Devno) -> Vec<PathBuf> {
    below(device).into_iter().filter_map(backing_file).collect()
}

/// The mount that a path lies in.
#[must_use]
pub fn mount_of<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    // Of several over one another, the last one is seen.
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// The filesystems that a device rests on, whatever lies between: those of the files below it, and what these rest on.
#[must_use]
pub fn filesystems_below(device: Devno, mounts: &[Mount]) -> Vec<&Mount> {
    let mut found: Vec<&Mount> = Vec::new();
    let mut devices = vec![device];
    while let Some(device) = devices.pop() {
        for mount in files_below(device)
            .iter()
            .filter_map(|file| mount_of(file, mounts))
        {
            if !found.iter().any(|other| other.devno == mount.devno) {
                found.push(mount);
                devices.extend(devices_of(mount));
            }
        }
    }
    found
}

/// How many filesystems a device rests on, one below the other; a filesystem freezes before all those.
#[must_use]
pub fn depth(device: Devno, mounts: &[Mount]) -> usize {
    depth_within(device, mounts, 16)
}

fn depth_within(device: Devno, mounts: &[Mount], limit: usize) -> usize {
    if limit == 0 {
        return 0;
    }
    let filesystems = files_below(device)
        .into_iter()
        .filter_map(|file| mount_of(&file, mounts));
    filesystems
        .map(|mount| {
            let deepest = devices_of(mount)
                .into_iter()
                .map(|device| depth_within(device, mounts, limit - 1));
            1 + deepest.max().unwrap_or(0)
        })
        .max()
        .unwrap_or(0)
}

/// Swap areas: devices, and the mounts of swap files.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn swaps(mounts: &[Mount]) -> io::Result<Vec<(PathBuf, Vec<Devno>)>> {
    let text = fs::read("/proc/swaps")?;
    let areas = text
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| line.split(u8::is_ascii_whitespace).next())
        .filter(|path| !path.is_empty());
    Ok(areas
        .map(mounts::path)
        .map(|path| {
            let devices = match blockdev::devno(&path) {
                Ok(device) => below(device),
                Err(_) => mount_of(&path, mounts)
                    .map(devices_of)
                    .unwrap_or_default()
                    .into_iter()
                    .flat_map(below)
                    .collect(),
            };
            (path, devices)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{below, devices_of, mount_of};
    use crate::disk::blockdev::Devno;
    use crate::disk::mounts::Mount;

    fn mount(point: &str, kind: &str, devno: (u32, u32)) -> Mount {
        Mount {
            devno: Devno {
                major: devno.0,
                minor: devno.1,
            },
            ..crate::disk::mounts::tests::mount(point, kind, "rw")
        }
    }

    #[test]
    fn the_innermost_mount_has_a_path() {
        let mounts = [
            mount("/", "ext4", (8, 1)),
            mount("/srv", "xfs", (8, 2)),
            mount("/srv2", "xfs", (8, 3)),
        ];
        let point = |path| &mount_of(Path::new(path), &mounts).unwrap().point;
        assert_eq!(point("/srv/db/file"), Path::new("/srv"));
        assert_eq!(point("/srv2"), Path::new("/srv2"));
        assert_eq!(point("/etc"), Path::new("/"));
        let over = [mounts[1].clone(), mount("/srv", "ext4", (8, 9))];
        assert_eq!(mount_of(Path::new("/srv/x"), &over).unwrap().kind, "ext4");
    }

    #[test]
    fn what_has_no_device_has_none() {
        assert!(devices_of(&mount("/tmp", "tmpfs", (0, 30))).is_empty());
        assert_eq!(devices_of(&mount("/", "ext4", (8, 1))).len(), 1);
    }

    #[test]
    fn an_unknown_device_is_made_of_itself() {
        let device = Devno {
            major: 4000,
            minor: 1,
        };
        assert_eq!(below(device), [device]);
    }
}
