//! What is mounted where, from `/proc/self/mountinfo`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::blockdev::{self, Devno};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
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
    /// The mount's own options, then those of the filesystem.
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

fn listed(process: &str) -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string(format!("/proc/{process}/mountinfo"))?
        .lines()
        .filter_map(parse)
        .collect())
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`: see proc(5).
fn parse(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let devno = mount.next()?.parse().ok()?;
    let (root, point, options) = (mount.next()?, mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, source) = (filesystem.next()?, filesystem.next()?);
    Some(Mount {
        devno,
        root: unescape(root).into(),
        point: unescape(point).into(),
        kind: kind.to_owned(),
        source: unescape(source),
        options: format!("{options},{}", filesystem.next().unwrap_or_default()),
    })
}

/// The kernel writes blanks and backslashes as `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let [
            b'\\',
            a @ b'0'..=b'3',
            b @ b'0'..=b'7',
            c @ b'0'..=b'7',
            after @ ..,
        ] = rest
        {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::{Mount, mounts, parse};

    /// A mount as tests want it: with a device where the filesystem has one.
    pub fn mount(point: &str, kind: &str, options: &str) -> Mount {
        let device = if kind == "ext4" || kind == "xfs" {
            "8:1"
        } else {
            "0:1"
        };
        Mount {
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
        let line = r"36 35 253:1 /a\040b /mnt/x rw,noatime shared:1 master:2 - ext4 /dev/mapper/ff-x rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.devno.major, mount.devno.minor), (253, 1));
        assert_eq!(mount.root, Path::new("/a b"));
        assert_eq!(mount.point, Path::new("/mnt/x"));
        assert_eq!(
            (mount.kind.as_str(), mount.source.as_str()),
            ("ext4", "/dev/mapper/ff-x")
        );
        assert_eq!(mount.options, "rw,noatime,rw,errors=continue");
        assert_eq!(parse("nonsense"), None);
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
