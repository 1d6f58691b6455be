//! Who has files of a filesystem open, from `/proc`: to tell the user, never to decide; the kernel does that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::blockdev::Devno;

/// How many are named in a message or a report; the others are counted.
pub const NAMED: usize = 50;

/// A file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// By which descriptor. `None`: it is a working folder, a root, or mapped.
    pub fd: Option<i32>,
    /// The file's path, as the process sees it.
    pub path: String,
}

/// Regular files of the filesystem that are open for writing, or are deleted and not gone: what stands against read-only.
#[must_use]
pub fn keeping_writable(filesystem: Devno) -> Vec<OpenFile> {
    of_every_process(|process| {
        let counts = |file: &Descriptor| file.regular && (file.writable || file.deleted);
        process
            .descriptors(filesystem)
            .into_iter()
            .filter(counts)
            .map(|file| file.open)
            .collect()
    })
}

/// Regular files of the filesystem that are open for writing.
#[must_use]
pub fn writers(filesystem: Devno) -> Vec<OpenFile> {
    of_every_process(|process| {
        let writes = |file: &Descriptor| file.regular && file.writable;
        process
            .descriptors(filesystem)
            .into_iter()
            .filter(writes)
            .map(|file| file.open)
            .collect()
    })
}

/// All that keeps the filesystem at `point` from being unmounted.
#[must_use]
pub fn users(filesystem: Devno, point: &Path) -> Vec<OpenFile> {
    of_every_process(|process| {
        let descriptors = process.descriptors(filesystem).into_iter();
        let mut users: Vec<_> = descriptors.map(|file| file.open).collect();
        users.extend(process.folders(filesystem));
        users.extend(process.mapped(point));
        users
    })
}

/// The lines for people, as many as are worth it.
#[must_use]
pub fn lines(files: &[OpenFile]) -> String {
    let mut text = String::new();
    for file in files.iter().take(NAMED) {
        let by = file
            .fd
            .map_or_else(|| "in use".to_owned(), |fd| format!("descriptor {fd}"));
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {} ({}), {by}: {}", file.pid, file.name, file.path);
    }
    if files.len() > NAMED {
        let _ = write!(text, "\n  and {} more", files.len() - NAMED);
    }
    text
}

fn of_every_process(look: impl Fn(&Process) -> Vec<OpenFile>) -> Vec<OpenFile> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<_> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter()
        .flat_map(|pid| look(&Process::new(pid)))
        .collect()
}

struct Process {
    pid: i32,
    name: String,
    /// The filesystems of the mounts that it sees, by the mounts' ids: what a descriptor says of itself.
    mounts: BTreeMap<u32, Devno>,
}

struct Descriptor {
    open: OpenFile,
    writable: bool,
    regular: bool,
    deleted: bool,
}

impl Process {
    fn new(pid: i32) -> Self {
        let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        Self {
            pid,
            name: read("comm").trim_end().to_owned(),
            mounts: read("mountinfo").lines().filter_map(mount_id).collect(),
        }
    }

    fn open(&self, fd: Option<i32>, path: String) -> OpenFile {
        OpenFile {
            pid: self.pid,
            name: self.name.clone(),
            fd,
            path,
        }
    }

    fn descriptors(&self, filesystem: Devno) -> Vec<Descriptor> {
        let folder = format!("/proc/{}/fd", self.pid);
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let fd = entry.file_name().to_str()?.parse().ok()?;
                let info = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.pid)).ok()?;
                let info = Info::parse(&info)?;
                let metadata = fs::metadata(entry.path()).ok()?;
                // A descriptor that came from another namespace is of a mount that is not seen here.
                let on = self.mounts.get(&info.mount).copied();
                if on.unwrap_or_else(|| Devno::from(metadata.dev())) != filesystem {
                    return None;
                }
                let kind = metadata.file_type();
                let odd =
                    kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device();
                let path = fs::read_link(entry.path()).ok()?;
                Some(Descriptor {
                    writable: info.writable,
                    regular: !odd && !kind.is_dir(),
                    deleted: metadata.nlink() == 0,
                    open: self.open(Some(fd), path.display().to_string()),
                })
            })
            .collect()
    }

    /// Its working folder and its root.
    fn folders(&self, filesystem: Devno) -> Vec<OpenFile> {
        let links = ["cwd", "root"].map(|what| PathBuf::from(format!("/proc/{}/{what}", self.pid)));
        let on = |link: &PathBuf| fs::metadata(link).is_ok_and(|at| Devno::from(at.dev()) == filesystem);
        links
            .into_iter()
            .filter(on)
            .filter_map(|link| fs::read_link(link).ok())
            .map(|path| self.open(None, path.display().to_string()))
            .collect()
    }

    fn mapped(&self, point: &Path) -> Vec<OpenFile> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let mut paths: Vec<_> = maps
            .lines()
            .filter_map(|line| line.find('/').map(|at| &line[at..]))
            .filter(|path| Path::new(path).starts_with(point))
            .map(str::to_owned)
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths.into_iter().map(|path| self.open(None, path)).collect()
    }
}

/// What `fdinfo` says.
#[derive(Debug, PartialEq, Eq)]
struct Info {
    writable: bool,
    mount: u32,
}

impl Info {
    /// `flags:` are octal; the lowest two bits tell whether it is read, written or both.
    fn parse(text: &str) -> Option<Self> {
        let field = |name| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let flags = u32::from_str_radix(field("flags:")?, 8).ok()?;
        Some(Self {
            writable: flags & 3 != 0,
            mount: field("mnt_id:")?.parse().ok()?,
        })
    }
}

/// The id of a mount and the number of its filesystem, from a line of `mountinfo`.
fn mount_id(line: &str) -> Option<(u32, Devno)> {
    let mut words = line.split(' ');
    Some((words.next()?.parse().ok()?, words.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use super::{Info, OpenFile, Process, lines, mount_id};
    use crate::disk::blockdev::Devno;

    #[test]
    fn descriptors_tell_of_themselves() {
        let info = |text| Info::parse(text).map(|info| (info.writable, info.mount));
        assert_eq!(info("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"), Some((true, 29)));
        assert_eq!(info("flags:\t0100000\nmnt_id:\t7\n"), Some((false, 7)));
        assert_eq!(info("flags:\t01\n"), None);
    }

    #[test]
    fn a_mount_has_an_id_and_a_filesystem() {
        let line = "36 35 98:0 /root /point rw - ext3 /dev/root rw";
        assert_eq!(mount_id(line), Some((36, "98:0".parse().unwrap())));
        assert_eq!(mount_id(""), None);
    }

    #[test]
    fn our_own_files_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        let us = Process::new(i32::try_from(std::process::id()).unwrap());
        let on = us
            .mounts
            .values()
            .copied()
            .chain([Devno::from(file.metadata().unwrap().dev())]);
        let found = on
            .flat_map(|filesystem| us.descriptors(filesystem))
            .find(|found| found.open.path == path.display().to_string())
            .unwrap();
        assert!(found.writable && found.regular && !found.deleted);
    }

    #[test]
    fn only_so_many_are_named() {
        let file = OpenFile {
            pid: 7,
            name: "cat".into(),
            fd: Some(3),
            path: "/x".into(),
        };
        assert_eq!(lines(&[file.clone()]), "\n  7 (cat), descriptor 3: /x");
        assert!(lines(&vec![file; 60]).ends_with("\n  and 10 more"));
    }
}
