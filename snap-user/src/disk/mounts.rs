//! What is mounted where, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::disk::blockdev::{self, Devno};
use crate::octal::unescape;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id: no other mount has it, in any namespace.
    pub id: u32,
    /// The filesystem's number: of its block device, or anonymous (btrfs, overlay, tmpfs).
    pub devno: Devno,
    /// Which folder of the filesystem is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Filesystem type.
    pub kind: String,
    /// What was mounted, as the mounter named it.
    pub source: String,
    /// The mount's own options, then those of the filesystem, escaped as the kernel has them.
    pub options: String,
}

impl Mount {
    /// Whether it sits on that block device. btrfs has an anonymous number, so its source counts too.
    #[must_use]
    pub fn is_on(&self, device: Devno) -> bool {
        self.devno == device
            || self.source.starts_with('/')
                && blockdev::devno(Path::new(&self.source)).is_ok_and(|found| found == device)
    }
}

/// Every mount of this mount namespace.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn mounts() -> io::Result<Vec<Mount>> {
    listed("self")
}

/// Every mount that a process sees.
///
/// # Errors
///
/// When it is gone.
pub fn of_process(pid: i32) -> io::Result<Vec<Mount>> {
    listed(&pid.to_string())
}

/// The mount that a descriptor is of, by its id.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn id_of(file: impl AsFd) -> io::Result<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd()))?;
    let id = field(&info, "mnt_id:").and_then(|id| id.parse().ok());
    id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A field of a descriptor's `fdinfo`.
#[must_use]
pub fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn listed(process: &str) -> io::Result<Vec<Mount>> {
    Ok(parse_all(&fs::read(format!("/proc/{process}/mountinfo"))?))
}

/// Whoever may mount chooses names, and not all of them are text.
fn parse_all(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`: see proc(5).
fn parse(line: &[u8]) -> Option<Mount> {
    // Blanks within a word are escaped.
    let mut words = line.split(|byte| *byte == b' ');
    let id = text(words.next()?)?.parse().ok()?;
    let devno = text(words.nth(1)?)?.parse().ok()?;
    let (root, point, options) = (words.next()?, words.next()?, words.next()?);
    words.find(|word| word == b"-")?;
    let (kind, source) = (words.next()?, words.next()?);
    Some(Mount {
        id,
        devno,
        root: path(root),
        point: path(point),
        kind: text(kind)?.to_owned(),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
        options: format!("{},{}", escape(options), escape(words.next().unwrap_or_default())),
    })
}

fn text(word: &[u8]) -> Option<&str> {
    str::from_utf8(word).ok()
}

/// A path as the kernel writes it in lists: blanks and backslashes as `\040`.
#[must_use]
pub fn path(escaped: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(escaped)).into()
}

/// Text, with what is none escaped like the blanks in it: a path among the options is whole when it is unescaped.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use super::{Mount, id_of, mounts, parse, parse_all, path};

    /// A mount as tests want it: with a device where the filesystem has one.
    pub fn mount(point: &str, kind: &str, options: &str) -> Mount {
        let device = if kind == "ext4" || kind == "xfs" {
            "8:1"
        } else {
            "0:1"
        };
        Mount {
            id: 0,
            devno: device.parse().unwrap(),
            root: "/".into(),
            point: point.into(),
            kind: kind.into(),
            source: "none".into(),
            options: options.into(),
        }
    }

    #[test]
    fn a_line_is_taken_apart() {
        let line = br"36 35 253:1 /a\040b /mnt/x rw,noatime shared:1 master:2 - ext4 /dev/mapper/ff-x rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!(mount.id, 36);
        assert_eq!((mount.devno.major, mount.devno.minor), (253, 1));
        assert_eq!(mount.root, Path::new("/a b"));
        assert_eq!(mount.point, Path::new("/mnt/x"));
        assert_eq!(
            (mount.kind.as_str(), mount.source.as_str()),
            ("ext4", "/dev/mapper/ff-x")
        );
        assert_eq!(mount.options, "rw,noatime,rw,errors=continue");
        assert_eq!(parse(b"nonsense"), None);
        // A mount point may be named like what stands in front of the type.
        assert_eq!(parse(b"1 2 8:1 / /- rw - xfs /dev/a rw").unwrap().kind, "xfs");
    }

    #[test]
    fn names_that_are_no_text_are_names_all_the_same() {
        let lines = b"36 35 0:50 / /home/u/caf\xe9\\040bar rw - fuse.x caf\xe9 rw\n\
            37 35 0:51 / /m rw - overlay o rw,upperdir=/u/\xe9\\054,workdir=/w\n\
            38 35 8:1 / /srv rw - ext4 /dev/sda1 rw\n";
        let mounts = parse_all(lines);
        assert_eq!(mounts.len(), 3, "{mounts:?}");
        assert_eq!(
            mounts[0].point.as_os_str(),
            OsStr::from_bytes(b"/home/u/caf\xe9 bar")
        );
        assert_eq!(
            mounts[1].options, r"rw,rw,upperdir=/u/\351\054,workdir=/w",
            "it can be taken apart at the commas"
        );
        assert_eq!(path(br"/u/\351\054").as_os_str(), OsStr::from_bytes(b"/u/\xe9,"));
        assert_eq!(mounts[2].point, Path::new("/srv"));
    }

    #[test]
    fn a_descriptor_is_of_a_mount() {
        let id = id_of(File::open("/proc").unwrap()).unwrap();
        let mounts = mounts().unwrap();
        let mount = mounts.iter().find(|mount| mount.id == id).unwrap();
        assert_eq!(mount.kind, "proc");
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(
            mounts()
                .unwrap()
                .iter()
                .any(|mount| mount.point == Path::new("/"))
        );
    }
}
