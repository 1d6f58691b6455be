//! Which filesystems a take freezes, and in which order.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::disk::ask::{Filesystems, Unfreezable};
use crate::disk::blockdev::Devno;
use crate::disk::mounts::{self, Mount};
use crate::disk::stack;

/// Why a filesystem cannot be frozen. Nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// `/proc` is not as it should be.
    #[error("cannot list the mounts: {0}; is /proc mounted?")]
    Mounts(io::Error),
    /// Nothing at that path.
    #[error("cannot freeze {}: {cause}; name a mount point, see `findmnt`", path.display())]
    Missing {
        /// What was named.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Not a mount point.
    #[error("cannot freeze {}: it is no mount point; its filesystem is mounted at {}", path.display(), point.display())]
    NoMountPoint {
        /// What was named.
        path: PathBuf,
        /// What it lies in.
        point: PathBuf,
    },
    /// A kind of filesystem that cannot freeze.
    #[error("cannot freeze {} ({kind}): {why}; {remedy}", point.display())]
    Kind {
        /// The mount point.
        point: PathBuf,
        /// The filesystem's type.
        kind: String,
        /// Why.
        why: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// `auto` or `all`, and there is none.
    #[error("cannot choose filesystems: {0}; name one with --fs")]
    None(&'static str),
    /// The image would go the way of what is discarded.
    #[error(
        "cannot write the image to {}: what is written there after the instant is discarded at shutdown; write it elsewhere, for \
         example to a freshly mounted disk, or keep the snapshot with --keep", point.display()
    )]
    Output {
        /// The mount point.
        point: PathBuf,
    },
    /// It can be seen, but not opened.
    #[error("cannot open {}: {cause}; check the mount", point.display())]
    Open {
        /// The mount point.
        point: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// How the writers of a filesystem are held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It freezes.
    Freeze,
    /// It has no freezing, and is made read-only with the descriptors that are open for writing.
    ReadOnly,
}

/// A filesystem that will freeze.
#[derive(Debug)]
pub struct Chosen {
    /// One of its mounts.
    pub mount: Mount,
    /// The devices it is on.
    pub devices: Vec<Devno>,
    /// A descriptor on it, by which the module knows it.
    pub fd: OwnedFd,
    /// How.
    pub hold: Hold,
}

/// The filesystems that a take freezes, in the order in which they do: what lies on a file of another comes before that. What a
/// process serves comes first of all, for it may take until that process answers, with nothing else frozen yet.
///
/// # Errors
///
/// When one cannot be frozen, or there is none.
pub fn choose(
    wanted: &Filesystems,
    unfreezable: Unfreezable,
    pids: &[i32],
) -> Result<Vec<Chosen>, ChooseError> {
    let mounts = mounts::mounts().map_err(ChooseError::Mounts)?;
    let seen = match wanted {
        Filesystems::None => return Ok(Vec::new()),
        Filesystems::Named(paths) => named(paths, unfreezable, &mounts)?,
        Filesystems::Auto => written_to(pids, &mounts),
        Filesystems::All => everywhere(&mounts),
        Filesystems::AllAnd(paths) => {
            let mut seen = named(paths, unfreezable, &mounts)?;
            seen.extend(everywhere(&mounts));
            seen
        }
    };
    let mut chosen: Vec<Chosen> = Vec::new();
    for Seen { mount, root, hold } in seen {
        // What does not freeze is not snapshotted either, whatever it is on.
        let devices = match hold {
            Hold::Freeze => stack::devices_of(&mount),
            Hold::ReadOnly => Vec::new(),
        };
        let twice = |other: &Chosen| {
            other.mount.devno == mount.devno || !devices.is_empty() && other.devices == devices
        };
        if hold == Hold::Freeze && devices.is_empty() || chosen.iter().any(twice) {
            continue; // seen before: a bind mount, another namespace
        }
        let path = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
        let fd = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        chosen.push(Chosen {
            fd: fd.map_err(|error| ChooseError::Open {
                point: mount.point.clone(),
                cause: error.into(),
            })?,
            mount,
            devices,
            hold,
        });
    }
    if chosen.is_empty() {
        return Err(ChooseError::None(match wanted {
            Filesystems::Auto => {
                "the processes have no file open for writing on a filesystem that has a device"
            }
            _ => "none that is mounted for writing has a device",
        }));
    }
    let depth = |chosen: &Chosen| {
        let depths = chosen.devices.iter().map(|device| stack::depth(*device, &mounts));
        depths.max().unwrap_or(0)
    };
    chosen.sort_by_cached_key(|chosen| std::cmp::Reverse((above(&chosen.mount), depth(chosen))));
    Ok(chosen)
}

/// A mount, and the root folder from which its mount point is seen.
struct Seen {
    mount: Mount,
    root: PathBuf,
    hold: Hold,
}

impl Seen {
    fn here(mount: &Mount) -> Self {
        Self {
            mount: mount.clone(),
            root: "/".into(),
            hold: Hold::Freeze,
        }
    }

    fn read_only(mount: &Mount) -> Self {
        Self {
            hold: Hold::ReadOnly,
            ..Self::here(mount)
        }
    }
}

/// What rests on other filesystems in a way that no device tells.
fn above(mount: &Mount) -> u8 {
    match mount.kind.as_str() {
        kind if kind.starts_with("fuse") => 2,
        "overlay" => 1,
        _ => 0,
    }
}

/// How its writers are held up, where there is no choice.
#[must_use]
pub fn hold_of(mount: &Mount) -> Hold {
    if cannot_freeze(mount).is_some() {
        Hold::ReadOnly
    } else {
        Hold::Freeze
    }
}

/// Kinds that can be made read-only for the instant.
fn suits_read_only(mount: &Mount) -> bool {
    let kind = mount.kind.as_str();
    matches!(kind, "tmpfs" | "ramfs" | "overlay" | "fuseblk" | "fuse") || kind.starts_with("fuse.")
}

/// Why a kind of filesystem does not freeze, or not to any purpose.
fn cannot_freeze(mount: &Mount) -> Option<&'static str> {
    match mount.kind.as_str() {
        kind if kind == "fuseblk" || kind == "fuse" || kind.starts_with("fuse.") => {
            Some("a process serves it, which might be one of those that freeze")
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "afs" => {
            Some("its disk is on another machine, which goes on writing")
        }
        "tmpfs" | "ramfs" | "hugetlbfs" => {
            Some("it has no device, and what processes map of it is in the image")
        }
        _ if stack::devices_of(mount).is_empty() => Some("it has no device"),
        _ => None,
    }
}

fn named(paths: &[PathBuf], unfreezable: Unfreezable, mounts: &[Mount]) -> Result<Vec<Seen>, ChooseError> {
    let mut seen = Vec::new();
    for path in paths {
        let real = fs::canonicalize(path).map_err(|cause| ChooseError::Missing {
            path: path.clone(),
            cause,
        })?;
        let Some(mount) = stack::mount_of(&real, mounts) else {
            return Err(ChooseError::Missing {
                path: path.clone(),
                cause: io::ErrorKind::NotFound.into(),
            });
        };
        if mount.point != real {
            return Err(ChooseError::NoMountPoint {
                path: path.clone(),
                point: mount.point.clone(),
            });
        }
        let lower = beneath(mount, mounts);
        let Some(why) = cannot_freeze(lower) else {
            seen.push(Seen::here(lower));
            continue;
        };
        let refused = |why, remedy| ChooseError::Kind {
            point: mount.point.clone(),
            kind: mount.kind.clone(),
            why,
            remedy,
        };
        match unfreezable {
            _ if !suits_read_only(lower) => return Err(refused(why, "leave it out")),
            Unfreezable::Fail => {
                let remedy =
                    "leave it out, or have it read-only for the instant with --unfreezable remount-ro";
                return Err(refused(why, remedy));
            }
            Unfreezable::RemountRo if lower.kind == "overlay" => {
                let why = if upper_of(lower).is_some() {
                    "the filesystem of its upper folder is not to be seen from here"
                } else {
                    "it has no upper folder, so nothing writes to it"
                };
                return Err(refused(why, "leave it out"));
            }
            Unfreezable::RemountRo => {
                if lower != mount {
                    seen.push(Seen::read_only(mount));
                }
                seen.push(Seen::read_only(lower));
            }
        }
    }
    Ok(seen)
}

/// An overlay writes to the filesystem that has its upper folder: that is the one to freeze.
fn beneath<'a>(mount: &'a Mount, mounts: &'a [Mount]) -> &'a Mount {
    if mount.kind != "overlay" {
        return mount;
    }
    upper_of(mount)
        .and_then(|upper| stack::mount_of(Path::new(upper), mounts))
        .unwrap_or(mount)
}

fn upper_of(overlay: &Mount) -> Option<&str> {
    overlay
        .options
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="))
}

/// Those of the whole machine, in every mount namespace that has a process.
fn everywhere(mounts: &[Mount]) -> Vec<Seen> {
    let mut seen: Vec<_> = mounts.iter().map(Seen::here).collect();
    let mut namespaces = BTreeSet::new();
    namespaces.insert(namespace("self"));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if namespaces.insert(namespace(&pid.to_string())) {
            seen.extend(seen_by(pid));
        }
    }
    let read_only = |mount: &Mount| mount.options.split(',').any(|option| option == "ro");
    seen.retain(|seen| cannot_freeze(&seen.mount).is_none() && !read_only(&seen.mount));
    seen
}

fn namespace(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/mnt")).ok()
}

fn seen_by(pid: i32) -> Vec<Seen> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let mounts = mounts::of_process(pid).unwrap_or_default();
    mounts
        .into_iter()
        .map(|mount| Seen {
            mount,
            root: root.clone(),
            hold: Hold::Freeze,
        })
        .collect()
}

/// Those on which processes have regular files open for writing, or mapped for it.
fn written_to(pids: &[i32], mounts: &[Mount]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for pid in pids {
        let of_process = seen_by(*pid);
        for path in written_paths(*pid) {
            let innermost = of_process
                .iter()
                .filter(|seen| path.starts_with(&seen.mount.point))
                .max_by_key(|seen| seen.mount.point.components().count());
            let Some(found) = innermost else { continue };
            // An overlay's upper folder is a path of whoever mounted it.
            if found.mount.kind == "overlay" {
                seen.push(Seen::here(beneath(&found.mount, mounts)));
            } else {
                seen.push(Seen {
                    mount: found.mount.clone(),
                    root: found.root.clone(),
                    hold: Hold::Freeze,
                });
            }
        }
    }
    seen.retain(|seen| cannot_freeze(&seen.mount).is_none());
    seen
}

/// Files that a process may write to, as it sees them.
fn written_paths(pid: i32) -> Vec<PathBuf> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let descriptors = fs::read_dir(&folder).into_iter().flatten().flatten();
    let open = descriptors.filter_map(|entry| {
        let info = fs::read_to_string(format!(
            "/proc/{pid}/fdinfo/{}",
            entry.file_name().to_string_lossy()
        ))
        .ok()?;
        let regular = fs::metadata(entry.path()).ok()?.file_type();
        if !is_writable(&info) || regular.is_socket() || regular.is_fifo() || regular.is_char_device() {
            return None;
        }
        fs::read_link(entry.path()).ok()
    });
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = maps.lines().filter_map(mapped_for_writing).map(PathBuf::from);
    let paths: BTreeSet<_> = open.chain(mapped).filter(|path| path.is_absolute()).collect();
    paths.into_iter().collect()
}

/// `flags:` of a descriptor, octal; the lowest two bits tell whether it is read, written or both.
fn is_writable(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & 3 != 0)
}

/// The file of a line of `maps` that is shared and writable.
fn mapped_for_writing(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let access = words.nth(1)?;
    let path = words.nth(3)?;
    (access.starts_with("rw") && access.ends_with('s') && path.starts_with('/')).then(|| {
        // The path may have blanks.
        line.find(path).map_or(path, |at| &line[at..])
    })
}

/// Refuses to write an image to a filesystem whose changes will be discarded, and the image with them.
///
/// # Errors
///
/// When it lies on one of them.
pub fn refuse_output(chosen: &[Chosen], output: Option<&File>) -> Result<(), ChooseError> {
    let Some(device) = output
        .and_then(|file| file.metadata().ok())
        .map(|metadata| metadata.dev())
    else {
        return Ok(());
    };
    let on = |chosen: &&Chosen| rustix::fs::fstat(&chosen.fd).is_ok_and(|stat| stat.st_dev == device);
    // What is read-only for the instant keeps what is written to it.
    let mut switched = chosen.iter().filter(|chosen| chosen.hold == Hold::Freeze);
    match switched.find(on) {
        Some(chosen) => Err(ChooseError::Output {
            point: chosen.mount.point.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, beneath, cannot_freeze, is_writable, mapped_for_writing, named};
    use crate::disk::ask::Unfreezable;
    use crate::disk::blockdev::Devno;
    use crate::disk::mounts::Mount;

    fn mount(point: &str, kind: &str, options: &str) -> Mount {
        Mount {
            devno: Devno {
                major: u32::from(kind == "ext4") * 8,
                minor: 1,
            },
            root: "/".into(),
            point: point.into(),
            kind: kind.into(),
            source: "none".into(),
            options: options.into(),
        }
    }

    #[test]
    fn descriptors_tell_whether_they_write() {
        assert!(is_writable("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"));
        assert!(is_writable("flags:\t01\n"));
        assert!(!is_writable("flags:\t0100000\n"));
        assert!(!is_writable(""));
    }

    #[test]
    fn only_shared_and_writable_mappings_of_files_count() {
        let line = "7f00-7f10 rw-s 00000000 08:01 12   /srv/a file";
        assert_eq!(mapped_for_writing(line), Some("/srv/a file"));
        for line in [
            "7f00-7f10 rw-p 00000000 08:01 12   /srv/file",
            "7f00-7f10 r--s 00000000 08:01 12   /srv/file",
            "7f00-7f10 rw-s 00000000 00:00 0",
        ] {
            assert_eq!(mapped_for_writing(line), None, "{line}");
        }
    }

    #[test]
    fn an_overlay_is_its_upper_folder() {
        let mounts = [
            mount("/", "ext4", "rw"),
            mount(
                "/merged",
                "overlay",
                "rw,lowerdir=/l,upperdir=/var/u,workdir=/var/w",
            ),
        ];
        assert_eq!(beneath(&mounts[1], &mounts), &mounts[0]);
        assert_eq!(beneath(&mounts[0], &mounts), &mounts[0]);
    }

    #[test]
    fn what_cannot_freeze_says_why() {
        assert!(cannot_freeze(&mount("/", "ext4", "rw")).is_none());
        for kind in ["fuse.sshfs", "fuseblk", "nfs4", "tmpfs", "proc", "overlay"] {
            assert!(cannot_freeze(&mount("/x", kind, "rw")).is_some(), "{kind}");
        }
    }

    /// How `/` freezes if it is of that kind.
    fn root(kind: &str, mode: Unfreezable) -> Result<Vec<Hold>, String> {
        let mounts = [mount("/", kind, "rw")];
        let seen = named(&["/".into()], mode, &mounts).map_err(|error| error.to_string())?;
        Ok(seen.iter().map(|seen| seen.hold).collect())
    }

    #[test]
    fn what_cannot_freeze_is_refused_or_read_only() {
        for mode in [Unfreezable::Fail, Unfreezable::RemountRo] {
            assert_eq!(root("ext4", mode), Ok(vec![Hold::Freeze]));
            for kind in ["proc", "nfs4", "overlay", "hugetlbfs"] {
                assert!(root(kind, mode).is_err(), "{kind}");
            }
        }
        for kind in ["tmpfs", "fuse.sshfs", "ramfs"] {
            assert_eq!(root(kind, Unfreezable::RemountRo), Ok(vec![Hold::ReadOnly]));
            let error = root(kind, Unfreezable::Fail).unwrap_err();
            assert!(error.contains("--unfreezable remount-ro"), "{error}");
        }
    }

    #[test]
    fn an_overlay_whose_upper_folder_does_not_freeze_is_read_only_with_it() {
        let over = mount("/", "overlay", "rw,lowerdir=/l,upperdir=/run/u,workdir=/run/w");
        let mounts = [over, mount("/run", "tmpfs", "rw")];
        let seen = named(&["/".into()], Unfreezable::RemountRo, &mounts).unwrap();
        let kinds: Vec<_> = seen
            .iter()
            .map(|seen| (seen.mount.kind.as_str(), seen.hold))
            .collect();
        assert_eq!(kinds, [("overlay", Hold::ReadOnly), ("tmpfs", Hold::ReadOnly)]);
    }
}
