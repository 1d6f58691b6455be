//! A look for the marker of the root's layer before the root is mounted: into the filesystem on the layer's own device.
//!
//! A take writes the marker, and makes it last, before it freezes: so it is on the frozen origin. The look must change nothing
//! there, and yet see what a mount would see after a crash. It goes through a throw-away snapshot, in which the journal is
//! replayed; where that cannot be made, the device itself is mounted without its journal, which can only show a marker too many.

use std::cell::OnceCell;
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::disk::blockdev::{self, SECTOR};
use crate::disk::dm::{Dm, Role};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::layer::refusal;
use crate::disk::marker::{self, Marker};
use crate::disk::record::{DmIdentity, TableLine, UUID_PREFIX};
use crate::disk::{loopdev, probe};

const POINT: &str = "/run/freezeframe/peek";

/// Looks once, however often it is asked.
#[derive(Debug, Default)]
pub struct Peek {
    /// The options that the root will be mounted with; of them only the subvolume matters.
    pub rootflags: String,
    seen: OnceCell<Option<Marker>>,
}

impl Peek {
    /// One that has not looked.
    #[must_use]
    pub fn new(rootflags: &str) -> Self {
        Self {
            rootflags: rootflags.to_owned(),
            seen: OnceCell::new(),
        }
    }

    /// The marker of the layer `top` on the filesystem of its device. `None`: it runs on no store.
    ///
    /// # Errors
    ///
    /// When it cannot be told: there is no filesystem, or none that can be mounted. A half-merged one may be such.
    pub fn marker(&self, dm: &Dm, device: &Path, top: &str) -> Result<Option<Marker>, DiskError> {
        if let Some(seen) = self.seen.get() {
            return Ok(seen.clone());
        }
        let found = self.look(dm, device, top)?;
        Ok(self.seen.get_or_init(|| found).clone())
    }

    fn look(&self, dm: &Dm, device: &Path, top: &str) -> Result<Option<Marker>, DiskError> {
        let refuse = |why: String| {
            refusal(
                "start",
                top.trim_start_matches("ff-"),
                why,
                "attach the disks of all stores; if none is missing, check the filesystem from a rescue system, or boot once with \
                 `ffroot=nostore` on the kernel's command line",
            )
        };
        let Some((kind, _)) = probe::filesystem(device) else {
            return Err(refuse(format!(
                "{} has no filesystem that could tell whether it runs on a store",
                device.display()
            )));
        };
        let read = || marker::read_below(Path::new(POINT), top);
        let through_view = View::new(dm, device, top)
            .map_err(io::Error::other)
            .and_then(|view| {
                let _mounted = Mounted::new(&view.node, &kind, self.options(&kind, Journal::Replayed))?;
                read()
            });
        through_view
            .or_else(|error| {
                tell!(
                    "cannot look into {} through a snapshot: {error}; looking without its journal",
                    device.display()
                );
                let _mounted = Mounted::new(device, &kind, self.options(&kind, Journal::Ignored))?;
                read()
            })
            .map_err(|error| {
                refuse(format!(
                    "the {kind} on {} does not tell whether it runs on a store ({error})",
                    device.display()
                ))
            })
    }

    fn options(&self, kind: &str, journal: Journal) -> String {
        let fixed = match (kind, journal) {
            ("xfs", Journal::Replayed) => "nouuid",
            ("xfs", Journal::Ignored) => "nouuid,norecovery",
            ("ext3" | "ext4", Journal::Ignored) => "noload",
            ("btrfs", Journal::Ignored) => "rescue=nologreplay",
            _ => "",
        };
        let subvolume = self
            .rootflags
            .split(',')
            .filter(|option| kind == "btrfs" && option.starts_with("subvol"));
        let options: Vec<_> = Some(fixed)
            .into_iter()
            .filter(|option| !option.is_empty())
            .chain(subvolume)
            .collect();
        options.join(",")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Journal {
    Replayed,
    Ignored,
}

/// A snapshot of a device that takes what a mount writes, and is thrown away.
struct View<'a> {
    dm: &'a Dm,
    name: String,
    node: PathBuf,
}

impl<'a> View<'a> {
    fn new(dm: &'a Dm, device: &Path, top: &str) -> Result<Self, DiskError> {
        let doing = || format!("look into {}", device.display());
        let identity = DmIdentity {
            name: format!("ff-view-{top}"),
            uuid: format!("{UUID_PREFIX}view-{top}"),
        };
        dm.remove_if_there(&identity.name)?; // of a look that was killed
        let sectors = fs::File::open(device)
            .and_then(|file| blockdev::sectors(&file))
            .doing(doing)?;
        let origin = blockdev::devno(device).doing(doing)?;
        let scratch = loopdev::throwaway(sectors * SECTOR)
            .doing(|| "make a loop device for what the mount writes".to_owned())?;
        let below = blockdev::devno(&scratch.path).doing(doing)?;
        let table = [TableLine {
            start: 0,
            sectors,
            kind: "snapshot".to_owned(),
            params: format!("{origin} {below} N 8"),
        }];
        dm.create(&identity, &table, Role::Part)?;
        Ok(Self {
            node: dm.node(&identity.name)?,
            name: identity.name,
            dm,
        })
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.dm.remove(&self.name) {
            tell!("{error}");
        }
    }
}

/// A filesystem, mounted read-only for a moment.
struct Mounted;

impl Mounted {
    fn new(node: &Path, kind: &str, options: String) -> io::Result<Self> {
        fs::create_dir_all(POINT)?;
        let options = CString::new(options)?;
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(node, POINT, kind, flags, Some(options.as_c_str()))?;
        Ok(Self)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(POINT, UnmountFlags::empty()) {
            tell!("cannot unmount {POINT}: {error}");
        }
        // Empty, and in a tmpfs.
        let _ = fs::remove_dir(POINT);
    }
}

#[cfg(test)]
mod tests {
    use super::{Journal, Peek};

    #[test]
    fn only_the_subvolume_of_the_rootflags_counts() {
        let peek = Peek::new("noatime,subvol=@,compress=zstd");
        assert_eq!(peek.options("btrfs", Journal::Replayed), "subvol=@");
        assert_eq!(
            peek.options("btrfs", Journal::Ignored),
            "rescue=nologreplay,subvol=@"
        );
        assert_eq!(peek.options("ext4", Journal::Replayed), "");
        assert_eq!(peek.options("ext4", Journal::Ignored), "noload");
        assert_eq!(peek.options("xfs", Journal::Replayed), "nouuid");
    }
}
