//! The files that a process may write to, by the filesystems that they are on. Not by their paths: those are seen from our root, and
//! the process may have another one.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use crate::disk::blockdev::Devno;
use crate::disk::mounts::{Mount, field};

/// Where a file is that a process may write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The id of the mount by which it was opened. `None`: it is mapped, and none is told.
    mount: Option<u32>,
    /// The number of its filesystem. Of a file on btrfs that is open it is its subvolume's, which no mount has.
    devno: Devno,
}

impl Written {
    /// Whether it is on that mount, or on another one of the filesystem where none is told.
    #[must_use]
    pub fn is_on(&self, mount: &Mount) -> bool {
        match self.mount {
            Some(id) => mount.id == id,
            None => mount.devno == self.devno,
        }
    }

    /// The same, for a file that came from a mount which nobody sees: another one of its filesystem will do.
    #[must_use]
    pub const fn by_number(self) -> Self {
        Self { mount: None, ..self }
    }
}

/// Files that a process may write to: regular ones, and devices.
#[must_use]
pub fn by(pid: i32) -> Vec<Written> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let open = descriptors.filter_map(|entry| {
        let fd = entry.file_name().into_string().ok()?;
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let metadata = fs::metadata(entry.path()).ok()?;
        let kind = metadata.file_type();
        if !is_writable(&info) || kind.is_socket() || kind.is_fifo() || kind.is_char_device() {
            return None;
        }
        Some(Written {
            mount: Some(field(&info, "mnt_id:")?.parse().ok()?),
            devno: Devno::from(metadata.dev()),
        })
    });
    // Its paths need not be text.
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = maps
        .split(|byte| *byte == b'\n')
        .filter_map(mapped_for_writing)
        .map(|devno| Written { mount: None, devno });
    let mut written: Vec<Written> = Vec::new();
    for file in open.chain(mapped) {
        if !written.contains(&file) {
            written.push(file);
        }
    }
    written
}

/// `flags:` of a descriptor, octal; the lowest two bits tell whether it is read, written or both.
fn is_writable(info: &str) -> bool {
    field(info, "flags:")
        .and_then(|flags| u32::from_str_radix(flags, 8).ok())
        .is_some_and(|flags| flags & 3 != 0)
}

/// The filesystem of a line of `maps` that is shared and writable. `show_map_vma` takes the number from the superblock, as
/// `show_mountinfo` does (6.1 to 6.12), so it is that of the mount on btrfs, too.
fn mapped_for_writing(line: &[u8]) -> Option<Devno> {
    let mut words = line.split(|byte| *byte == b' ');
    let access = words.nth(1)?;
    if !access.starts_with(b"rw") || !access.ends_with(b"s") {
        return None;
    }
    let (major, minor) = str::from_utf8(words.nth(1)?).ok()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let (major, minor) = (number(major)?, number(minor)?);
    Some(Devno { major, minor })
}

#[cfg(test)]
mod tests {
    use super::{Written, by, is_writable, mapped_for_writing};
    use crate::disk::blockdev::Devno;
    use crate::disk::mounts::tests::mount;
    use crate::disk::mounts::{Mount, id_of};

    #[test]
    fn descriptors_tell_whether_they_write() {
        assert!(is_writable("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"));
        assert!(is_writable("flags:\t01\n"));
        assert!(!is_writable("flags:\t0100000\n"));
        assert!(!is_writable(""));
    }

    #[test]
    fn only_shared_and_writable_mappings_count() {
        for line in [
            &b"7f00-7f10 rw-s 00000000 fd:1a 12   /srv/a file"[..],
            b"7f00-7f10 rw-s 00000000 fd:1a 12   /srv/caf\xe9",
        ] {
            let (major, minor) = (0xfd, 0x1a);
            assert_eq!(mapped_for_writing(line), Some(Devno { major, minor }));
        }
        for line in [
            &b"7f00-7f10 rw-p 00000000 08:01 12   /srv/file"[..],
            b"7f00-7f10 r--s 00000000 08:01 12   /srv/file",
            b"",
        ] {
            assert_eq!(mapped_for_writing(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_we_have_open_is_told_by_its_mount() {
        let file = tempfile::tempfile().unwrap();
        let written = by(std::process::id().cast_signed());
        let id = id_of(&file).unwrap();
        assert!(written.iter().any(|file| file.mount == Some(id)), "{written:?}");
    }

    #[test]
    fn an_open_file_is_on_its_mount_and_a_mapped_one_on_its_filesystem() {
        let at = |id| Mount {
            id,
            ..mount("/", "ext4", "rw")
        };
        let devno = at(1).devno;
        let open = Written {
            mount: Some(2),
            devno,
        };
        assert!(open.is_on(&at(2)) && !open.is_on(&at(1)));
        assert!(open.by_number().is_on(&at(1)));
        // Of a subvolume: nobody has that number.
        let of_btrfs = Written {
            devno: "0:99".parse().unwrap(),
            ..open
        };
        assert!(of_btrfs.is_on(&at(2)) && !of_btrfs.by_number().is_on(&at(2)));
    }
}
