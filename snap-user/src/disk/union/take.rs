//! How a union comes about: all that can fail is done before, and undone if it does.
//!
//! 1. An overlay is made for each filesystem, seen by nobody yet.
//! 2. The filesystems become read-only, which the kernel grants only where nobody can write. From here on nothing of them changes.
//! 3. The module takes its instant.
//! 4. The overlays are mounted over them. Between 2 and 4, opening a file for writing fails (EROFS).

use std::fs::{self, Permissions};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount as mount_call, mount_bind, move_mount,
};

use super::{Access, Lower, Union, life, mounted, reconfigure};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::mounts::Mount;
use crate::disk::openfiles;
use crate::disk::record::new_id;
use crate::disk::stack;

/// A union that is about to be: its filesystems are read-only, its overlays are there. When it is dropped, all of that goes.
#[derive(Debug)]
pub struct Prepared {
    union: Union,
    parts: Vec<Part>,
    /// Taken as long as this lives.
    _lock: fs::File,
    settled: bool,
}

/// One filesystem of it.
#[derive(Debug)]
struct Part {
    mount: Mount,
    /// The filesystem, from before the overlay hides it.
    fd: OwnedFd,
    overlay: OwnedFd,
}

/// The filesystems that are to be united, each fit for it as far as can be seen.
///
/// # Errors
///
/// When one is not.
pub fn choose(points: &[PathBuf]) -> Result<Vec<Mount>, DiskError> {
    let mounts = mounted()?;
    let mut chosen: Vec<Mount> = Vec::new();
    for point in points {
        let real = fs::canonicalize(point).doing(|| format!("find {}", point.display()))?;
        let mount = fit(&real, &mounts).map_err(|(why, remedy)| DiskError::Union {
            point: real.clone(),
            why,
            remedy,
        })?;
        if let Some(other) = chosen.iter().find(|other| other.devno == mount.devno) {
            return Err(DiskError::Union {
                point: real,
                why: format!("it is the same filesystem as {}", other.point.display()),
                remedy: "name it once".to_owned(),
            });
        }
        chosen.push(mount.clone());
    }
    Ok(chosen)
}

/// What is in the way, and the way out.
type Misfit = (String, String);

fn fit<'a>(real: &Path, mounts: &'a [Mount]) -> Result<&'a Mount, Misfit> {
    let no = |why: &str, remedy: &str| Err((why.to_owned(), remedy.to_owned()));
    let Some(mount) = stack::mount_of(real, mounts) else {
        return no("nothing is mounted there", "see `findmnt`");
    };
    if mount.point != real {
        let why = format!(
            "it is no mount point; its filesystem is mounted at {}",
            mount.point.display()
        );
        return Err((why, "name that".to_owned()));
    }
    if real == Path::new("/") {
        return no(
            "what runs has it for its root, and would not come by the overlay",
            "put a layer below it (`freezeframe layer`), or leave it out",
        );
    }
    if matches!(
        mount.kind.as_str(),
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "afs"
    ) {
        return no(
            "its disk is on another machine, which goes on writing",
            "leave it out",
        );
    }
    if mount.options.split(',').any(|option| option == "ro") {
        return no(
            "it is read-only already, so it stays as it is",
            "leave it out, or mount an overlay over it",
        );
    }
    let inner = mounts
        .iter()
        .find(|inner| inner.point != real && inner.point.starts_with(real));
    if let Some(inner) = inner {
        let why = format!(
            "{} is mounted within it, and the overlay would hide that",
            inner.point.display()
        );
        return Err((why, "unmount that first".to_owned()));
    }
    Ok(mount)
}

impl Prepared {
    /// Makes the overlays, and the filesystems read-only.
    ///
    /// # Errors
    ///
    /// When somebody can write to one of them, or it does not do for an overlay; everything is as before then.
    pub fn new(mounts: Vec<Mount>, pids: &[i32]) -> Result<Self, DiskError> {
        let lowers = mounts.iter().map(|mount| Lower {
            point: mount.point.clone(),
            kind: mount.kind.clone(),
            source: mount.source.clone(),
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let union = Union {
            id: new_id(),
            created_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            instant_unix_ns: 0,
            targets: pids.to_vec(),
            filesystems: lowers.collect(),
            views: Vec::new(),
        };
        let folder = union.folder();
        fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
        let Some(lock) = union.lock()? else {
            return Err(life::busy("take", &union.id));
        };
        union.write()?;
        let mut prepared = Self {
            union,
            parts: Vec::new(),
            _lock: lock,
            settled: false,
        };
        for (index, mount) in mounts.into_iter().enumerate() {
            let part = prepared.part(index, mount)?;
            prepared.parts.push(part);
        }
        for part in &prepared.parts {
            reconfigure(&part.mount.point, Access::ReadOnly).map_err(|errno| refused(&part.mount, errno))?;
        }
        Ok(prepared)
    }

    fn part(&self, index: usize, mount: Mount) -> Result<Part, DiskError> {
        let point = &mount.point;
        let (lower, upper) = (self.union.lower(index), self.union.upper(index));
        for folder in [&lower, &upper] {
            fs::create_dir(folder).doing(|| format!("make {}", folder.display()))?;
        }
        mount_bind(point, &lower).doing(|| format!("bind {} to {}", point.display(), lower.display()))?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        mount_call("tmpfs", &upper, "tmpfs", flags, Some(c"mode=0700"))
            .doing(|| format!("mount a tmpfs on {}", upper.display()))?;
        for folder in ["upper", "work"] {
            fs::create_dir(upper.join(folder)).doing(|| format!("make {}/{folder}", upper.display()))?;
        }
        alike(point, &upper.join("upper"))
            .doing(|| format!("make {}/upper like {}", upper.display(), point.display()))?;
        let fd = rustix::fs::open(point, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Ok(Part {
            fd: fd.doing(|| format!("open {}", point.display()))?,
            overlay: self.overlay(index, &mount).map_err(|errno| DiskError::Union {
                point: point.clone(),
                why: format!(
                    "the kernel makes no overlay over its {} ({})",
                    mount.kind,
                    std::io::Error::from(errno)
                ),
                remedy: "see `dmesg`; is the module there (`modprobe overlay`)?".to_owned(),
            })?,
            mount,
        })
    }

    /// Not mounted anywhere yet.
    fn overlay(&self, index: usize, mount: &Mount) -> Result<OwnedFd, Errno> {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let upper = self.union.upper(index);
        // Ours, so free of what the options' syntax would trip over.
        for (option, path) in [
            ("lowerdir", self.union.lower(index)),
            ("upperdir", upper.join("upper")),
            ("workdir", upper.join("work")),
        ] {
            fsconfig_set_string(&overlay, option, &path)?;
        }
        fsconfig_set_string(&overlay, "source", self.union.source(index))?;
        fsconfig_create(&overlay)?;
        fsmount(
            &overlay,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes(&mount.options),
        )
    }

    /// Its filesystems, each with a descriptor by which the module knows it.
    pub fn filesystems(&self) -> impl Iterator<Item = (&Mount, &OwnedFd)> {
        self.parts.iter().map(|part| (&part.mount, &part.fd))
    }

    /// The instant is taken: the overlays are mounted.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; then all is undone, unless somebody has begun to use an overlay.
    pub fn attach(mut self, instant_unix_ns: u64) -> Result<Union, DiskError> {
        self.union.instant_unix_ns = instant_unix_ns;
        self.union.write()?;
        for part in &self.parts {
            let point = &part.mount.point;
            move_mount(
                part.overlay.as_fd(),
                "",
                CWD,
                point,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .doing(|| format!("mount the overlay over {}", point.display()))?;
        }
        self.settled = true;
        Ok(self.union.clone())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.parts.clear();
        if let Err(error) = life::end(&self.union) {
            tell!(
                "cannot clean up after the union {id}: {error}; `freezeframe discard {id}` does",
                id = self.union.id
            );
        }
    }
}

fn refused(mount: &Mount, errno: Errno) -> DiskError {
    let writers = openfiles::keeping_writable(mount.devno);
    let (why, remedy) = match errno {
        Errno::BUSY if writers.is_empty() => (
            "somebody has a file on it open for writing, whom no descriptor shows (a swap file, a loop device, a mapping)"
                .to_owned(),
            "have that closed".to_owned(),
        ),
        Errno::BUSY => (
            format!(
                "files on it are open for writing, or deleted and still open:{}",
                openfiles::lines(&writers)
            ),
            "have them closed, or snapshot it by a layer (--fs, --snapblockdev)".to_owned(),
        ),
        errno => (
            format!("it does not become read-only ({})", std::io::Error::from(errno)),
            "see `dmesg`".to_owned(),
        ),
    };
    DiskError::Union {
        point: mount.point.clone(),
        why,
        remedy,
    }
}

/// Makes `to` look as the folder `from`: an overlay's root is its upper folder.
fn alike(from: &Path, to: &Path) -> std::io::Result<()> {
    let like = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(like.uid()), Some(like.gid()))?;
    fs::set_permissions(to, Permissions::from_mode(like.mode() & 0o7777))?;
    copy_attributes(from, to)?;
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(like.atime(), like.atime_nsec()),
        last_modification: time(like.mtime(), like.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::empty())?)
}

/// Access control lists and security labels; what a tmpfs does not take (6.1: user attributes) only the root lacks.
fn copy_attributes(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut names = vec![0; 1 << 16];
    let length = match rustix::fs::listxattr(from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0; 1 << 16];
    for name in names[..length].split(|byte| *byte == 0) {
        if !name.starts_with(b"system.posix_acl")
            && !name.starts_with(b"security.")
            && !name.starts_with(b"user.")
        {
            continue;
        }
        let size = rustix::fs::getxattr(from, name, &mut value[..])?;
        match rustix::fs::setxattr(to, name, &value[..size], XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
            result => result?,
        }
    }
    Ok(())
}

/// The mount's own options, for the mount that hides it.
fn attributes(options: &str) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::empty();
    for option in options.split(',') {
        attributes |= match option {
            "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
            "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            _ => MountAttrFlags::empty(),
        };
    }
    attributes
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use rustix::mount::MountAttrFlags;

    use super::{alike, attributes, fit};
    use crate::disk::mounts::tests::mount;

    #[test]
    fn what_does_not_do_is_refused() {
        let mounts = [
            mount("/", "ext4", "rw"),
            mount("/srv", "ext4", "rw"),
            mount("/srv/inner", "tmpfs", "rw"),
            mount("/ro", "ext4", "ro,ro"),
            mount("/net", "nfs4", "rw"),
            mount("/good", "xfs", "rw"),
        ];
        assert_eq!(fit(Path::new("/good"), &mounts).unwrap(), &mounts[5]);
        for (point, why) in [
            ("/", "root"),
            ("/srv", "/srv/inner"),
            ("/ro", "read-only already"),
            ("/net", "another machine"),
            ("/good/folder", "no mount point"),
        ] {
            let (found, _) = fit(Path::new(point), &mounts).unwrap_err();
            assert!(found.contains(why), "{point}: {found}");
        }
    }

    #[test]
    fn the_mounts_own_options_are_kept() {
        assert_eq!(
            attributes("rw,nosuid,noexec,relatime,rw,errors=continue"),
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC
        );
    }

    #[test]
    fn a_folder_is_made_like_another() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o1751)).unwrap();
        alike(&from, &to).unwrap();
        let (like, made) = (fs::metadata(&from).unwrap(), fs::metadata(&to).unwrap());
        assert_eq!(made.permissions().mode() & 0o7777, 0o1751);
        assert_eq!(made.modified().unwrap(), like.modified().unwrap());
    }
}
