//! Who uses a block device, and what is on it: looked at before anything of it is overwritten.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::disk::blockdev::{self, Devno};
use crate::disk::mounts::mounts;

/// Who has a device. `None`: nobody, and nobody took it while we looked.
///
/// # Errors
///
/// When it cannot be opened.
pub fn user_of(path: &Path) -> io::Result<Option<String>> {
    let devno = blockdev::devno(path)?;
    if let Some(user) = known_user(devno)? {
        return Ok(Some(user));
    }
    // Of a block device O_EXCL asks whether a filesystem, swap, dm, md or anybody else claimed it (open(2)).
    match File::options()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(path)
    {
        Ok(_) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(Some(
            "it is in use by something of the kernel's (see `lsblk`)".to_owned(),
        )),
        Err(error) => Err(error),
    }
}

/// Those whom we can name.
fn known_user(devno: Devno) -> io::Result<Option<String>> {
    if let Some(mount) = mounts()?.into_iter().find(|mount| mount.is_on(devno)) {
        return Ok(Some(format!("it is mounted on {}", mount.point.display())));
    }
    let swaps = fs::read("/proc/swaps").unwrap_or_default();
    if swap_devices(&String::from_utf8_lossy(&swaps))
        .any(|path| blockdev::devno(Path::new(path)).is_ok_and(|found| found == devno))
    {
        return Ok(Some("it is swap space".to_owned()));
    }
    let holders: Vec<_> = blockdev::holders(devno)
        .into_iter()
        .map(|holder| {
            blockdev::stable_path(holder)
                .map_or_else(|| holder.to_string(), |path| path.display().to_string())
        })
        .collect();
    Ok((!holders.is_empty()).then(|| format!("it is part of {}", holders.join(", "))))
}

fn swap_devices(swaps: &str) -> impl Iterator<Item = &str> {
    swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .filter(|path| path.starts_with("/dev/"))
}

/// What `blkid` says of a device.
enum Blkid {
    Export(String),
    Nothing,
    /// It found several and will not choose.
    Several,
    /// There is no `blkid`.
    Missing,
}

fn blkid(path: &Path) -> io::Result<Blkid> {
    let output = Command::new("blkid")
        .args(["-p", "-o", "export"])
        .arg(path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) => Ok(match output.status.code() {
            Some(0) => Blkid::Export(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(2) => Blkid::Nothing,
            _ => Blkid::Several, // 8
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Blkid::Missing),
        Err(error) => Err(error),
    }
}

const SEVERAL: &str = "data of more than one kind";

/// What is on a device, as `blkid` names it. `None`: nothing that it knows; where there is no `blkid`, nothing but zeros.
///
/// # Errors
///
/// When it cannot be read.
pub fn content(path: &Path) -> io::Result<Option<String>> {
    Ok(match blkid(path)? {
        Blkid::Export(export) => describe(&export),
        Blkid::Nothing => None,
        Blkid::Several => Some(SEVERAL.to_owned()),
        Blkid::Missing => (!begins_blank(path)?)
            .then(|| "data of a kind that was not looked up, for there is no blkid".to_owned()),
    })
}

/// What is on a store beside its header, as `blkid` names it.
///
/// # Errors
///
/// When it cannot be read.
pub fn beside_header(path: &Path) -> io::Result<Option<String>> {
    Ok(match blkid(path)? {
        Blkid::Export(export) => describe(&without_table(&export)),
        Blkid::Nothing | Blkid::Missing => None,
        Blkid::Several => Some(SEVERAL.to_owned()),
    })
}

/// A partition table has its mark where the header is; if one is seen there, it is the header that looks like one.
fn without_table(export: &str) -> String {
    let lines = export.lines().filter(|line| !line.starts_with("PT"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// One phrase for `blkid -o export`. Of a partition it also says what the partition table has of it, which is no content.
fn describe(export: &str) -> Option<String> {
    let value = |name: &str| {
        export
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    match (value("TYPE"), value("LABEL"), value("PTTYPE")) {
        (Some(kind), Some(label), _) => Some(format!("{kind} ({label})")),
        (Some(kind), None, _) => Some(kind.to_owned()),
        (None, _, Some(table)) => Some(format!("a partition table ({table})")),
        (None, _, None) => value("USAGE").map(|_| "data of a known kind".to_owned()),
    }
}

fn begins_blank(path: &Path) -> io::Result<bool> {
    use std::io::Read as _;
    let mut start = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut start)?;
    Ok(start.iter().all(|byte| *byte == 0))
}

/// The kind and the uuid of the filesystem on a device, as `blkid` finds them.
#[must_use]
pub fn filesystem(path: &Path) -> Option<(String, String)> {
    let Ok(Blkid::Export(export)) = blkid(path) else {
        return None;
    };
    let value = |name: &str| export.lines().find_map(|line| line.strip_prefix(name));
    Some((
        value("TYPE=")?.to_owned(),
        value("UUID=").unwrap_or_default().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::{begins_blank, describe, swap_devices, without_table};

    #[test]
    fn content_is_one_phrase() {
        let describe = |export: &str| describe(export).unwrap_or_default();
        assert_eq!(
            describe("DEVNAME=/dev/x\nLABEL=srv\nUUID=1\nTYPE=ext4\n"),
            "ext4 (srv)"
        );
        assert_eq!(describe("UUID=1\nTYPE=swap\nUSAGE=other\n"), "swap");
        assert_eq!(describe("PTUUID=1\nPTTYPE=gpt\n"), "a partition table (gpt)");
        assert_eq!(describe("USAGE=raid\n"), "data of a known kind");
        assert_eq!(describe("PART_ENTRY_SCHEME=gpt\nPART_ENTRY_NUMBER=2\n"), "");
    }

    #[test]
    fn no_table_lies_beside_a_header() {
        let beside = |export: &str| describe(&without_table(export));
        assert_eq!(beside("DEVNAME=/dev/x\nPTTYPE=atari\n"), None);
        assert_eq!(
            beside("PTTYPE=atari\nTYPE=linux_raid_member\n").as_deref(),
            Some("linux_raid_member")
        );
    }

    #[test]
    fn swap_files_are_no_devices() {
        let text = "Filename\tType\tSize\n/dev/sda2   partition 1 0 -2\n/swap file 1 0 -3\n";
        assert_eq!(swap_devices(text).collect::<Vec<_>>(), ["/dev/sda2"]);
    }

    #[test]
    fn blank_is_all_zeros() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        assert!(begins_blank(file.path()).unwrap());
        std::fs::write(file.path(), [0, 0, 1]).unwrap();
        assert!(!begins_blank(file.path()).unwrap());
    }
}
