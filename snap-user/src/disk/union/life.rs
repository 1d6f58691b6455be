//! What becomes of a union: listed, looked at, discarded.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount as unmount_call};
use serde::Serialize;

use super::{Access, Union, all, mounted, reconfigure};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::mounts::Mount;
use crate::disk::openfiles;

/// A union, as `ls` shows it. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnionEntry {
    /// Its ID.
    pub id: String,
    /// `union`.
    pub kind: &'static str,
    /// What it is.
    pub state: Shown,
    /// When it was begun, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The instant, in nanoseconds since 1970; 0: not taken.
    pub instant_unix_ns: u64,
    /// The processes that were snapshotted with it.
    pub targets: Vec<i32>,
    /// Its filesystems.
    pub filesystems: Vec<LowerEntry>,
}

/// One filesystem of a union.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LowerEntry {
    /// Where it is mounted.
    pub mount: String,
    /// Its type.
    pub kind: String,
    /// Where it is as it was at the instant.
    pub origin: PathBuf,
    /// What was written since, in memory.
    pub used_bytes: u64,
    /// The most that may be.
    pub total_bytes: u64,
}

/// What a union is, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// A take is under way.
    Armed,
    /// A take or a discard was killed: `discard` cleans up.
    Abandoned,
    /// What is written is in memory.
    Active,
}

impl Shown {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Abandoned => "abandoned",
            Self::Active => "union",
        }
    }
}

/// Every union.
///
/// # Errors
///
/// When one cannot be read.
pub fn list() -> Result<Vec<UnionEntry>, DiskError> {
    let mounts = mounted()?;
    all()?.iter().map(|union| entry(union, &mounts)).collect()
}

fn entry(union: &Union, mounts: &[Mount]) -> Result<UnionEntry, DiskError> {
    let whole =
        (0..union.filesystems.len()).all(|index| mounts.iter().any(|mount| union.is_overlay(index, mount)));
    let state = match (whole, union.lock()?) {
        (true, _) => Shown::Active,
        (false, None) => Shown::Armed,
        (false, Some(_)) => Shown::Abandoned,
    };
    let filesystems = union.filesystems.iter().enumerate().map(|(index, lower)| {
        // Until its tmpfs is mounted, it is none.
        let upper = mounts.iter().any(|mount| mount.point == union.upper(index));
        let fill = upper
            .then(|| rustix::fs::statvfs(union.upper(index)).ok())
            .flatten();
        let (used, total) = fill.map_or((0, 0), |fill| {
            (
                (fill.f_blocks - fill.f_bfree) * fill.f_frsize,
                fill.f_blocks * fill.f_frsize,
            )
        });
        LowerEntry {
            mount: lower.point.display().to_string(),
            kind: lower.kind.clone(),
            origin: union.lower(index),
            used_bytes: used,
            total_bytes: total,
        }
    });
    Ok(UnionEntry {
        id: union.id.clone(),
        kind: "union",
        state,
        created_unix_ms: union.created_unix_ms,
        instant_unix_ns: union.instant_unix_ns,
        targets: union.targets.clone(),
        filesystems: filesystems.collect(),
    })
}

/// Another command is at it.
#[must_use]
pub fn busy(what: &'static str, id: &str) -> DiskError {
    DiskError::State {
        what,
        id: id.to_owned(),
        why: "another command changes it".to_owned(),
        remedy: "wait until that is over".to_owned(),
    }
}

/// Goes back to the instant: the overlays go, with all that was written, and the filesystems can be written to again.
///
/// # Errors
///
/// When somebody uses an overlay: they are named, and nothing is changed.
pub fn discard(union: &Union) -> Result<(), DiskError> {
    let Some(_lock) = union.lock()? else {
        return Err(busy("discard", &union.id));
    };
    end(union)
}

/// The same, by who has the lock. Whatever there is of it goes; can be called again after an error.
///
/// # Errors
///
/// As [`discard`].
pub(super) fn end(union: &Union) -> Result<(), DiskError> {
    let mounts = mounted()?;
    for view in &union.views {
        if mounts.iter().any(|mount| mount.point == *view) {
            return Err(DiskError::State {
                what: "discard",
                id: union.id.clone(),
                why: format!(
                    "its origin is still shown at {}, and would change there",
                    view.display()
                ),
                remedy: format!(
                    "unmount it with `freezeframe origin {} --unmount {}`",
                    union.id,
                    view.display()
                ),
            });
        }
    }
    let overlays: Vec<_> = (0..union.filesystems.len())
        .filter_map(|index| mounts.iter().find(|mount| union.is_overlay(index, mount)))
        .collect();
    for overlay in &overlays {
        unused(union, overlay, &mounts)?;
    }
    for overlay in &overlays {
        // It may have been opened since.
        unmount_call(&overlay.point, UnmountFlags::NOFOLLOW)
            .map_err(|errno| in_use(union, overlay, &errno.into()))?;
    }
    for index in (0..union.filesystems.len()).rev() {
        end_lower(union, index, &mounts)?;
    }
    let folder = union.folder();
    // Never a tree: should something still be mounted in it, that is somebody's data.
    fs::remove_file(folder.join("state.json"))
        .and_then(|()| fs::remove_dir(&folder))
        .doing(|| format!("remove {}", folder.display()))
}

fn end_lower(union: &Union, index: usize, mounts: &[Mount]) -> Result<(), DiskError> {
    let (lower, upper) = (union.lower(index), union.upper(index));
    if let Some(mount) = mounts.iter().find(|mount| mount.point == lower) {
        if mount.options.split(',').any(|option| option == "ro") {
            reconfigure(&lower, Access::ReadWrite)
                .doing(|| format!("make {} writable again", union.filesystems[index].point.display()))?;
        }
        unmount_call(&lower, UnmountFlags::NOFOLLOW).doing(|| format!("unmount {}", lower.display()))?;
    }
    if mounts.iter().any(|mount| mount.point == upper) {
        unmount_call(&upper, UnmountFlags::NOFOLLOW).doing(|| format!("unmount {}", upper.display()))?;
    }
    for folder in [lower, upper] {
        if folder.exists() {
            fs::remove_dir(&folder).doing(|| format!("remove {}", folder.display()))?;
        }
    }
    Ok(())
}

fn unused(union: &Union, overlay: &Mount, mounts: &[Mount]) -> Result<(), DiskError> {
    let at = mounts
        .iter()
        .filter(|mount| mount.point.starts_with(&overlay.point));
    if let Some(other) = at.into_iter().next_back().filter(|last| *last != overlay) {
        return Err(DiskError::State {
            what: "discard",
            id: union.id.clone(),
            why: format!(
                "something else is mounted on or in its overlay, at {}",
                other.point.display()
            ),
            remedy: format!("unmount that with `umount {}`", other.point.display()),
        });
    }
    if openfiles::users(overlay.devno, &overlay.point).is_empty() {
        Ok(())
    } else {
        Err(in_use(union, overlay, &std::io::ErrorKind::ResourceBusy.into()))
    }
}

fn in_use(union: &Union, overlay: &Mount, error: &std::io::Error) -> DiskError {
    let users = openfiles::users(overlay.devno, &overlay.point);
    let why = if users.is_empty() {
        format!("{} cannot be unmounted ({error})", overlay.point.display())
    } else {
        format!(
            "{} is in use:{}",
            overlay.point.display(),
            openfiles::lines(&users)
        )
    };
    DiskError::State {
        what: "discard",
        id: union.id.clone(),
        why,
        remedy: "have that closed".to_owned(),
    }
}

/// The rest of the take failed. The union goes where nothing was written to it yet; else it stays, and the user is told.
pub fn give_up(union: &Union) {
    let taken_back = || -> Result<bool, DiskError> {
        for (index, lower) in union.filesystems.iter().enumerate() {
            // With nobody able to write, what is empty stays so.
            if reconfigure(&lower.point, Access::ReadOnly).is_err()
                || !is_empty(&union.upper(index).join("upper"))
            {
                return Ok(false);
            }
        }
        discard(union).map(|()| true)
    };
    let why = match taken_back() {
        Ok(true) => return,
        Ok(false) => "it has been written to".to_owned(),
        Err(error) => error.to_string(),
    };
    let overlays = mounted().unwrap_or_default();
    for (index, lower) in union.filesystems.iter().enumerate() {
        // Whoever has it open for writing kept it writable; then this does nothing. Where its overlay is gone, so is what it hid.
        if overlays.iter().any(|mount| union.is_overlay(index, mount)) {
            let _ = reconfigure(&lower.point, Access::ReadWrite);
        }
    }
    stays(union, &why);
}

fn stays(union: &Union, why: &str) {
    tell!(
        "the union {id} stays, for {why}; `freezeframe discard {id}` goes back to the instant",
        id = union.id
    );
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Where the filesystems are as they were.
#[must_use]
pub fn origins(union: &Union) -> Vec<(String, PathBuf)> {
    let filesystems = union.filesystems.iter().enumerate();
    filesystems
        .map(|(index, lower)| (lower.point.display().to_string(), union.lower(index)))
        .collect()
}

/// Shows a filesystem as it was, read-only. `wanted`: its mount point, where there are several.
///
/// # Errors
///
/// When it is not clear which, or the kernel refuses.
pub fn show(union: &Union, point: &Path, wanted: Option<&str>) -> Result<(), DiskError> {
    let mut union = union.clone();
    let Some(_lock) = union.lock()? else {
        return Err(busy("show the origin of", &union.id));
    };
    let index = match wanted {
        None if union.filesystems.len() == 1 => Some(0),
        None => None,
        Some(wanted) => union
            .filesystems
            .iter()
            .position(|lower| lower.point == Path::new(wanted)),
    };
    let Some(index) = index else {
        let points: Vec<_> = union
            .filesystems
            .iter()
            .map(|lower| lower.point.display().to_string())
            .collect();
        return Err(DiskError::NoDevice {
            wanted: wanted.unwrap_or("what was named (nothing)").to_owned(),
            id: union.id.clone(),
            tops: points.join(", "),
        });
    };
    let point = point
        .canonicalize()
        .doing(|| format!("find {}", point.display()))?;
    union.views.push(point.clone());
    union.write()?;
    let lower = union.lower(index);
    mount_bind(&lower, &point).doing(|| format!("bind {} to {}", lower.display(), point.display()))?;
    // It stays so when the filesystem does not.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    mount_remount(&point, flags, c"").doing(|| format!("make {} read-only", point.display()))
}

/// Ends [`show`].
///
/// # Errors
///
/// When it shows nothing there, or is in use.
pub fn hide(union: &Union, point: &Path) -> Result<(), DiskError> {
    let mut union = union.clone();
    let Some(_lock) = union.lock()? else {
        return Err(busy("unmount the origin of", &union.id));
    };
    let point = point
        .canonicalize()
        .doing(|| format!("find {}", point.display()))?;
    if !union.views.contains(&point) {
        return Err(DiskError::NoView(point));
    }
    unmount_call(&point, UnmountFlags::NOFOLLOW).doing(|| format!("unmount {}", point.display()))?;
    union.views.retain(|view| *view != point);
    union.write()
}

/// What a union has not got, said in one sentence.
#[must_use]
pub fn not_for_unions(what: &'static str, union: &Union) -> DiskError {
    let (why, remedy) = match what {
        "commit" => (
            "it is a union: what was written lies in an overlay, and is not merged into the filesystem beneath".to_owned(),
            format!("copy what is to stay from {} elsewhere, and discard it", union.filesystems[0].point.display()),
        ),
        "extend" => (
            "it is a union, with its room in memory".to_owned(),
            format!("`mount -o remount,size=SIZE {}` gives it more", union.upper(0).display()),
        ),
        _ => (
            "it is a union, and goes with the machine in any case".to_owned(),
            "nothing need be done".to_owned(),
        ),
    };
    DiskError::State {
        what,
        id: union.id.clone(),
        why,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::union;
    use super::{entry, not_for_unions, origins, unused};
    use crate::disk::mounts::Mount;

    #[test]
    fn commit_says_why_not_and_what_then() {
        let error = not_for_unions("commit", &union()).to_string();
        assert!(
            error.starts_with("cannot commit 00c0ffee: it is a union"),
            "{error}"
        );
        assert!(
            error.ends_with("copy what is to stay from /srv elsewhere, and discard it"),
            "{error}"
        );
    }

    #[test]
    fn the_origin_is_where_the_filesystem_is_bound() {
        let origins = origins(&union());
        assert_eq!(origins[0].0, "/srv");
        assert!(origins[0].1.ends_with("union-00c0ffee/0.lower"));
    }

    #[test]
    fn what_is_mounted_over_the_overlay_is_in_the_way() {
        let mount = |point: &str, source: &str| Mount {
            id: 0,
            devno: "0:4000".parse().unwrap(),
            root: "/".into(),
            point: point.into(),
            kind: "overlay".into(),
            source: source.into(),
            options: "rw".into(),
        };
        let ours = mount("/srv", "freezeframe-00c0ffee-0");
        let both = [ours.clone(), mount("/srv/inner", "other")];
        let error = unused(&union(), &ours, &both).unwrap_err().to_string();
        assert!(error.contains("umount /srv/inner"), "{error}");
        assert!(
            entry(&union(), &both).is_err(),
            "its folder is not there to be locked"
        );
    }
}
