//! Which filesystems a take freezes, and in which order.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::disk::ask::{Filesystems, Search, Unfreezable};
use crate::disk::blockdev::Devno;
use crate::disk::choose::kinds::{above, beneath, cannot_freeze, suits_read_only, upper_of};
use crate::disk::mounts::{self, Mount};
use crate::disk::stack;

mod kinds;
mod written;

pub use kinds::{Hold, hold_of};

/// Why a filesystem cannot be frozen. Nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// `/proc` is not as it should be.
    #[error("cannot list the mounts: {0}; is /proc mounted?")]
    Mounts(io::Error),
    /// Nothing at that path.
    #[error("cannot {what} {}: {cause}; name a mount point, see `findmnt`", path.display())]
    Missing {
        /// What was to be done.
        what: &'static str,
        /// What was named.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Not a mount point.
    #[error("cannot {what} {}: it is no mount point; its filesystem is mounted at {}", path.display(), point.display())]
    NoMountPoint {
        /// What was to be done.
        what: &'static str,
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
        "cannot write the image to {point}: what is written there after the instant is discarded at shutdown; write it to a filesystem \
         that is left out (with --all: --exempt {point}), or keep the snapshot with --keep", point = point.display()
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
    /// Whether it rests on none of those from the last without this on, nor they on it: they may freeze at the same time.
    pub together: bool,
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
    if wanted.is_none() {
        return Ok(Vec::new());
    }
    let mounts = mounts::mounts().map_err(ChooseError::Mounts)?;
    let mut seen = named(&wanted.named, unfreezable, &mounts)?;
    seen.extend(match wanted.search {
        Search::None => Vec::new(),
        Search::Auto => written_to(pids, &mounts),
        Search::All => everywhere(&mounts),
    });
    for path in &wanted.exempt {
        let exempt = mount_at(path, "leave out", &mounts)?;
        seen.retain(|seen| seen.mount.devno != exempt.devno);
    }
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
            together: false,
        });
    }
    if chosen.is_empty() {
        return Err(ChooseError::None(match wanted.search {
            Search::Auto => "the processes have no file open for writing on a filesystem that has a device",
            _ if !wanted.exempt.is_empty() => {
                "all that are mounted for writing and have a device are left out"
            }
            _ => "none that is mounted for writing has a device",
        }));
    }
    Ok(in_order(chosen, &mounts))
}

fn in_order(chosen: Vec<Chosen>, mounts: &[Mount]) -> Vec<Chosen> {
    let height = |chosen: &Chosen| {
        let depths = chosen.devices.iter().map(|device| stack::depth(*device, mounts));
        (above(&chosen.mount), depths.max().unwrap_or(0))
    };
    let mut chosen: Vec<_> = chosen
        .into_iter()
        .map(|chosen| (height(&chosen), chosen))
        .collect();
    chosen.sort_by_key(|(height, _)| Reverse(*height));
    let depths: Vec<_> = chosen
        .iter()
        .map(|((above, depth), chosen)| (chosen.hold == Hold::Freeze && *above == 0).then_some(*depth))
        .collect();
    chosen
        .into_iter()
        .zip(together(&depths))
        .map(|((_, chosen), together)| Chosen { together, ..chosen })
        .collect()
}

/// Whether each of them may freeze at the same time as the one before it: those of the same [`stack::depth`] cannot rest on each
/// other. Given is that depth; nothing stands for what rests on others in another way, or becomes read-only.
fn together(depths: &[Option<usize>]) -> Vec<bool> {
    let before = std::iter::once(&None).chain(depths);
    depths
        .iter()
        .zip(before)
        .map(|(depth, before)| depth.is_some() && depth == before)
        .collect()
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

fn named(paths: &[PathBuf], unfreezable: Unfreezable, mounts: &[Mount]) -> Result<Vec<Seen>, ChooseError> {
    let mut seen = Vec::new();
    for path in paths {
        let mount = mount_at(path, "freeze", mounts)?;
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

/// The mount at a path, for an error to say what it was to be found for.
fn mount_at<'a>(path: &Path, what: &'static str, mounts: &'a [Mount]) -> Result<&'a Mount, ChooseError> {
    let missing = |cause| ChooseError::Missing {
        what,
        path: path.to_owned(),
        cause,
    };
    let real = fs::canonicalize(path).map_err(missing)?;
    let mount = stack::mount_of(&real, mounts).ok_or_else(|| missing(io::ErrorKind::NotFound.into()))?;
    if mount.point != real {
        return Err(ChooseError::NoMountPoint {
            what,
            path: path.to_owned(),
            point: mount.point.clone(),
        });
    }
    Ok(mount)
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
        for path in written::paths(*pid) {
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
    use super::{Hold, named, together};
    use crate::disk::ask::Unfreezable;
    use crate::disk::mounts::tests::mount;

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
    fn those_of_the_same_depth_freeze_at_the_same_time() {
        assert_eq!(together(&[]), [false; 0]);
        assert_eq!(
            together(&[Some(2), Some(1), Some(1), Some(1), Some(0)]),
            [false, false, true, true, false]
        );
        // FUSE, overlays and what becomes read-only are alone, and so is who comes after them.
        assert_eq!(
            together(&[None, None, Some(1), Some(1)]),
            [false, false, false, true]
        );
        assert_eq!(together(&[Some(1), None, Some(1)]), [false; 3]);
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
