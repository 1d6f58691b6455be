//! Which filesystems a take freezes, and in which order.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::disk::ask::{Filesystems, Search, Unfreezable};
use crate::disk::blockdev::Devno;
use crate::disk::choose::kinds::{above, beneath, cannot_freeze, suits_read_only, upper_of};
use crate::disk::mounts::{self, Mount};
use crate::disk::stack;

mod kinds;
pub mod refuse;
mod seen;
mod written;

pub use kinds::{Hold, hold_of};
use seen::{Seen, everywhere, written_to};

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
    /// The module does not take so many.
    #[error(
        "cannot freeze {count} {what} in one take: {most} are the most; leave some out (with --all: --exempt MOUNT), or take several \
         snapshots"
    )]
    TooMany {
        /// How many there are.
        count: usize,
        /// Filesystems, or devices.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
    /// The image would go the way of what is discarded.
    #[error(
        "cannot write the image to what rests on {point}: what is written there after the instant is discarded at shutdown; write it to a filesystem \
         that is left out (with --all: --exempt {point}), or keep the snapshot with --keep", point = point.display()
    )]
    Output {
        /// The mount point.
        point: PathBuf,
    },
    /// Another one is mounted over it.
    #[error("cannot freeze {} ({kind}): another filesystem is mounted over it; unmount that", point.display())]
    Hidden {
        /// The mount point.
        point: PathBuf,
        /// The filesystem's type.
        kind: String,
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
    let mut missed = Vec::new();
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
        match open(&root, &mount) {
            Ok(fd) => chosen.push(Chosen {
                fd,
                mount,
                devices,
                hold,
                together: false,
            }),
            Err(error) => missed.push((mount.devno, error)),
        }
    }
    // Another of its mounts may have done.
    let done = |devno| chosen.iter().any(|chosen| chosen.mount.devno == devno);
    if let Some((_, error)) = missed.into_iter().find(|(devno, _)| !done(*devno)) {
        return Err(error);
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

/// A descriptor on a filesystem: on that one, not on what hides it.
fn open(root: &Path, mount: &Mount) -> Result<OwnedFd, ChooseError> {
    let path = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
    let failed = |cause| ChooseError::Open {
        point: mount.point.clone(),
        cause,
    };
    let fd = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    if mounts::id_of(&fd).map_err(failed)? != mount.id {
        return Err(ChooseError::Hidden {
            point: mount.point.clone(),
            kind: mount.kind.clone(),
        });
    }
    Ok(fd)
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::{ChooseError, Hold, Mount, named, open, together};
    use crate::disk::ask::Unfreezable;
    use crate::disk::mounts::id_of;
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

    #[test]
    fn what_is_opened_is_what_was_meant() {
        let id = id_of(File::open("/proc").unwrap()).unwrap();
        let proc = Mount {
            id,
            ..mount("/proc", "proc", "rw")
        };
        assert!(open(Path::new("/"), &proc).is_ok());
        let hidden = Mount { id: id + 1, ..proc };
        assert!(matches!(
            open(Path::new("/"), &hidden),
            Err(ChooseError::Hidden { .. })
        ));
    }
}
