//! Block devices: numbers, names, sizes and who holds them, from sysfs.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// A block device's number; it reads `MAJOR:MINOR`.
pub use devicemapper::Device as Devno;

/// Bytes in a sector, the unit of the device mapper whatever the disk's own is.
pub const SECTOR: u64 = 512;

/// Where links with lasting names are, the best first.
const STABLE: [&str; 3] = ["by-partuuid", "by-id", "by-path"];

/// The number of the block device at `path`.
///
/// # Errors
///
/// When there is nothing, or no block device.
pub fn devno(path: &Path) -> io::Result<Devno> {
    let metadata = fs::metadata(path)?;
    if metadata.file_type().is_block_device() {
        Ok(Devno::from(metadata.rdev()))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a block device",
        ))
    }
}

/// How many sectors an open device, or a file that stands for one, has.
///
/// # Errors
///
/// When it has no size.
pub fn sectors(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0)).map(|bytes| bytes / SECTOR)
}

/// Its folder in sysfs.
#[must_use]
pub fn sysfs(devno: Devno) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{devno}"))
}

/// The node that the kernel itself makes, `/dev/NAME`. `None`: no such device.
#[must_use]
pub fn kernel_node(devno: Devno) -> Option<PathBuf> {
    let uevent = fs::read_to_string(sysfs(devno).join("uevent")).ok()?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// The name of a dm device.
#[must_use]
pub fn dm_name(devno: Devno) -> Option<String> {
    let name = fs::read_to_string(sysfs(devno).join("dm/name")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The uuid of a dm device, empty where it has none.
#[must_use]
pub fn dm_uuid(devno: Devno) -> Option<String> {
    let uuid = fs::read_to_string(sysfs(devno).join("dm/uuid")).ok()?;
    Some(uuid.trim_end().to_owned())
}

/// The size of a device in bytes, as it is now.
#[must_use]
pub fn size_bytes(devno: Devno) -> Option<u64> {
    let text = fs::read_to_string(sysfs(devno).join("size")).ok()?;
    text.trim_end().parse::<u64>().ok()?.checked_mul(SECTOR)
}

/// A path that names the device after the next boot too, where there is one: a dm device's name, or what udev links; else the
/// kernel's node.
#[must_use]
pub fn stable_path(devno: Devno) -> Option<PathBuf> {
    if let Some(name) = dm_name(devno) {
        return Some(Path::new("/dev/mapper").join(name));
    }
    STABLE
        .iter()
        .find_map(|folder| link_to(&Path::new("/dev/disk").join(folder), devno))
        .or_else(|| kernel_node(devno))
}

fn link_to(folder: &Path, wanted: Devno) -> Option<PathBuf> {
    let mut links: Vec<_> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| devno(path).is_ok_and(|found| found == wanted))
        .collect();
    links.sort();
    links.into_iter().next()
}

/// The devices that are made of this one: dm, md and bcache devices.
#[must_use]
pub fn holders(devno: Devno) -> Vec<Devno> {
    let Ok(entries) = fs::read_dir(sysfs(devno).join("holders")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("dev")).ok())
        .filter_map(|text| text.trim_end().parse().ok())
        .collect()
}

/// Every block device that has a size and can be read at once: no optical or floppy drives, no suspended dm devices.
///
/// # Errors
///
/// When sysfs is not there.
pub fn all() -> io::Result<Vec<Devno>> {
    let mut devices = Vec::new();
    for entry in fs::read_dir("/sys/class/block")? {
        let path = entry?.path();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if ["sr", "fd", "ram", "zram"].iter().any(|kind| {
            name.strip_prefix(kind)
                .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
        }) || matches!(read("size").trim_end(), "" | "0")
            || read("dm/suspended").trim_end() == "1"
        {
            continue;
        }
        // A device may go away between the two looks.
        if let Ok(devno) = read("dev").trim_end().parse() {
            devices.push(devno);
        }
    }
    devices.sort_by_key(|devno: &Devno| (devno.major, devno.minor));
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{all, devno, kernel_node};

    #[test]
    fn what_is_no_block_device_has_no_number() {
        assert!(devno(Path::new("/dev/null")).is_err());
        assert!(devno(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn every_device_has_a_node() {
        for device in all().unwrap_or_default() {
            assert!(kernel_node(device).is_some(), "{device}");
        }
    }
}
