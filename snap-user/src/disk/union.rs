//! Unions: a filesystem that is read-only for good, with an overlay over its mount point whose upper folder is in memory.
//!
//! What a union is made of lies in `/run/freezeframe/union-ID`, which goes with the machine, as the union does:
//!
//! - `state.json`: what is known of it, and its lock;
//! - `N.lower`: the N-th filesystem as it was at the instant, bound there;
//! - `N.upper`: a tmpfs with the folders `upper` and `work` of its overlay.
//!
//! All that ends a union looks at what is mounted, not at how far somebody said that he was: it can be killed and called again.

pub mod life;
pub mod take;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};
use serde::{Deserialize, Serialize};

use crate::disk::durable;
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::find;
use crate::disk::mounts::{Mount, mounts};

/// Where unions are.
const FOLDER: &str = "/run/freezeframe";

/// How long a whole ID is.
const ID_LENGTH: usize = 8;

/// What is known of a union.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Union {
    /// By which it is called.
    pub id: String,
    /// When it was begun, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The instant, in nanoseconds since 1970; 0: it was not taken.
    pub instant_unix_ns: u64,
    /// The processes that were snapshotted with it.
    pub targets: Vec<i32>,
    /// Its filesystems.
    pub filesystems: Vec<Lower>,
    /// Where `origin` has bound one of them.
    #[serde(default)]
    pub views: Vec<PathBuf>,
}

/// A filesystem of a union.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// Where it is mounted, and the overlay over it.
    pub point: PathBuf,
    /// Its type.
    pub kind: String,
    /// What was mounted.
    pub source: String,
}

/// Whether writing is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    ReadOnly,
    /// That, too.
    ReadWrite,
}

impl Union {
    fn folder_of(id: &str) -> PathBuf {
        Path::new(FOLDER).join(format!("union-{id}"))
    }

    fn folder(&self) -> PathBuf {
        Self::folder_of(&self.id)
    }

    /// Where a filesystem is as it was.
    #[must_use]
    pub fn lower(&self, index: usize) -> PathBuf {
        self.folder().join(format!("{index}.lower"))
    }

    /// The tmpfs that takes what is written.
    #[must_use]
    pub fn upper(&self, index: usize) -> PathBuf {
        self.folder().join(format!("{index}.upper"))
    }

    /// What our overlay says that it was mounted from.
    fn source(&self, index: usize) -> String {
        format!("freezeframe-{}-{index}", self.id)
    }

    fn is_overlay(&self, index: usize, mount: &Mount) -> bool {
        mount.kind == "overlay" && mount.source == self.source(index)
    }

    fn write(&self) -> Result<(), DiskError> {
        let path = self.folder().join("state.json");
        let text = serde_json::to_string(self).map_err(io::Error::from);
        text.and_then(|text| durable::write(&path, &text))
            .doing(|| format!("write {}", path.display()))
    }

    /// Keeps others from changing it, as long as the file lives. `None`: somebody does.
    fn lock(&self) -> Result<Option<File>, DiskError> {
        let folder = self.folder();
        let file = File::open(&folder).doing(|| format!("open {}", folder.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).doing(|| format!("lock {}", folder.display())),
        }
    }
}

/// Every union of this machine.
///
/// # Errors
///
/// When one cannot be read.
pub fn all() -> Result<Vec<Union>, DiskError> {
    let mut unions: Vec<Union> = Vec::new();
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("union-") {
            continue;
        }
        let path = entry.path().join("state.json");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // it goes, or comes
            text => text.doing(|| format!("read {}", path.display()))?,
        };
        let union = serde_json::from_str(&text).map_err(io::Error::from);
        unions.push(union.doing(|| format!("read {}", path.display()))?);
    }
    unions.sort_by_key(|union| union.created_unix_ms);
    Ok(unions)
}

/// The union whose ID begins so. `None`: there is none.
///
/// # Errors
///
/// When that is so of more than one, or of a snapshot on a store, too.
pub fn find(prefix: &str) -> Result<Option<Union>, DiskError> {
    let wanted = prefix.to_ascii_lowercase();
    let mut found = all()?;
    found.retain(|union| union.id.starts_with(&wanted));
    let Some(union) = found.pop() else { return Ok(None) };
    let mut others: Vec<_> = found.into_iter().map(|union| union.id).collect();
    if wanted.len() < ID_LENGTH {
        let stores = find::stores()?;
        let snapshots = stores.iter().flat_map(|store| &store.state().snapshots);
        let ids = snapshots.map(|record| record.id.clone());
        others.extend(ids.filter(|id| id.starts_with(&wanted)));
    }
    if others.is_empty() {
        return Ok(Some(union));
    }
    others.push(union.id);
    Err(DiskError::Ambiguous {
        prefix: prefix.to_owned(),
        ids: others.join(" or "),
    })
}

/// Changes the filesystem that is mounted at `point`, all its mounts. To [`Access::ReadOnly`] the kernel refuses (EBUSY) where
/// somebody can write, whoever that is.
fn reconfigure(point: &Path, access: Access) -> Result<(), Errno> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT;
    // Nothing but this is changed; a remount by mount(2) would set all options anew.
    let filesystem = fspick(CWD, point, flags)?;
    let flag = match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    fsconfig_set_flag(&filesystem, flag)?;
    fsconfig_reconfigure(&filesystem)
}

fn mounted() -> Result<Vec<Mount>, DiskError> {
    mounts().doing(|| "read /proc/self/mountinfo".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Lower, Union};
    use crate::disk::mounts::Mount;

    pub(super) fn union() -> Union {
        Union {
            id: "00c0ffee".into(),
            created_unix_ms: 1,
            instant_unix_ns: 2,
            targets: vec![7],
            filesystems: vec![Lower {
                point: "/srv".into(),
                kind: "ext4".into(),
                source: "/dev/sda1".into(),
            }],
            views: Vec::new(),
        }
    }

    #[test]
    fn an_overlay_of_ours_is_known_by_its_source() {
        let mut mount = Mount {
            id: 0,
            devno: "0:50".parse().unwrap(),
            root: "/".into(),
            point: "/srv".into(),
            kind: "overlay".into(),
            source: "freezeframe-00c0ffee-0".into(),
            options: "rw".into(),
        };
        assert!(union().is_overlay(0, &mount));
        assert!(!union().is_overlay(1, &mount));
        mount.source = "overlay".into();
        assert!(!union().is_overlay(0, &mount));
    }
}
