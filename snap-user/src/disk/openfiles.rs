//! Who has files of a filesystem open, from `/proc`: to tell the user, never to decide; the kernel does that.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::blockdev::Devno;
use crate::disk::mounts::{self, Mount, field};

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

fn of_every_process(look: impl Fn(&Process<'_>) -> Vec<OpenFile>) -> Vec<OpenFile> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<_> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .collect();
    pids.sort_unstable();
    let ours = ids(mounts::mounts());
    pids.into_iter()
        .flat_map(|pid| look(&Process::new(pid, &ours)))
        .collect()
}

/// The filesystems of mounts, by the mounts' ids: what a descriptor says of itself.
type Ids = BTreeMap<u32, Devno>;

fn ids(mounts: io::Result<Vec<Mount>>) -> Ids {
    let mounts = mounts.unwrap_or_default().into_iter();
    mounts.map(|mount| (mount.id, mount.devno)).collect()
}

struct Process<'a> {
    pid: i32,
    name: String,
    /// Of the mounts that it sees.
    mounts: Ids,
    /// Of those that we see: more than it does, where it has another root.
    ours: &'a Ids,
}

struct Descriptor {
    open: OpenFile,
    writable: bool,
    regular: bool,
    deleted: bool,
}

impl<'a> Process<'a> {
    fn new(pid: i32, ours: &'a Ids) -> Self {
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self {
            pid,
            name: String::from_utf8_lossy(&name).trim_end().to_owned(),
            mounts: ids(mounts::of_process(pid)),
            ours,
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
                // A descriptor that came from another namespace is of a mount that is seen neither there nor here.
                let on = self
                    .mounts
                    .get(&info.mount)
                    .or_else(|| self.ours.get(&info.mount));
                if on.copied().unwrap_or_else(|| Devno::from(metadata.dev())) != filesystem {
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
        let maps = fs::read(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let mut paths: Vec<_> = maps
            .split(|byte| *byte == b'\n')
            .filter_map(mapped_path)
            .filter(|path| path.starts_with(point))
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths
            .into_iter()
            .map(|path| self.open(None, path.display().to_string()))
            .collect()
    }
}

/// The path in a line of `maps`, which need not be text.
fn mapped_path(line: &[u8]) -> Option<&Path> {
    let begin = line.iter().position(|byte| *byte == b'/')?;
    Some(Path::new(OsStr::from_bytes(&line[begin..])))
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
        let flags = u32::from_str_radix(field(text, "flags:")?, 8).ok()?;
        Some(Self {
            writable: flags & 3 != 0,
            mount: field(text, "mnt_id:")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::{Ids, Info, OpenFile, Process, lines, mapped_path};
    use crate::disk::blockdev::Devno;
    use crate::disk::mounts;

    #[test]
    fn descriptors_tell_of_themselves() {
        let info = |text| Info::parse(text).map(|info| (info.writable, info.mount));
        assert_eq!(info("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"), Some((true, 29)));
        assert_eq!(info("flags:\t0100000\nmnt_id:\t7\n"), Some((false, 7)));
        assert_eq!(info("flags:\t01\n"), None);
    }

    #[test]
    fn a_mapped_path_need_not_be_text() {
        let line = b"7f00-7f10 r-xp 00000000 08:01 12   /srv/caf\xe9 x";
        let path = mapped_path(line).unwrap();
        assert!(path.starts_with("/srv"));
        assert_eq!(path.as_os_str().as_bytes(), b"/srv/caf\xe9 x");
        assert_eq!(mapped_path(b"7f00-7f10 rw-p 00000000 00:00 0 [heap]"), None);
    }

    #[test]
    fn who_has_another_root_is_looked_up_in_our_mounts() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("file")).unwrap();
        // As of btrfs: no file has the number of its mount.
        let number: Devno = "0:4000".parse().unwrap();
        let ours = Ids::from([(mounts::id_of(&file).unwrap(), number)]);
        let us = Process {
            mounts: Ids::new(),
            ..Process::new(i32::try_from(std::process::id()).unwrap(), &ours)
        };
        assert!(!us.descriptors(number).is_empty());
    }

    #[test]
    fn our_own_files_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        let none = Ids::new();
        let us = Process::new(i32::try_from(std::process::id()).unwrap(), &none);
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
        assert_eq!(
            lines(std::slice::from_ref(&file)),
            "\n  7 (cat), descriptor 3: /x"
        );
        assert!(lines(&vec![file; 60]).ends_with("\n  and 10 more"));
    }
}
