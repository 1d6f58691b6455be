//! The device mapper: one typed call per thing that we ask of it.
//!
//! # Minimum kernel version
//!
//! Any with `dm_mod` (device mapper 4.x); the targets `snapshot` and `snapshot-merge` load by themselves.

mod error;
mod status;

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use devicemapper::{DM, DevId, DmFlags, DmName, DmOptions, DmUuid, errors};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::disk::blockdev::{self, Devno};
use crate::disk::record::{DmIdentity, TableLine, UUID_PREFIX};
use crate::disk::table::{join, same};

pub use error::{Action, DmError};
pub use status::SnapshotStatus;

/// Where the nodes are.
const NODES: &str = "/dev/mapper";
/// How long udev may take for a node that it was told to make.
const NODE_PATIENCE: Duration = Duration::from_secs(5);

/// Whom a new device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// For users: udev treats it as any disk.
    Layer,
    /// For ourselves: udev makes its node and looks no further, so that a frozen filesystem is not taken for the live one by its
    /// uuid or label.
    Part,
    /// As [`Role::Part`], and nobody can write to it.
    ReadOnlyPart,
}

impl Role {
    fn options(self) -> DmOptions {
        match self {
            Self::Layer => DmOptions::default(),
            Self::Part => DmOptions::private(),
            Self::ReadOnlyPart => DmOptions::private().set_flags(DmFlags::DM_READONLY),
        }
    }

    fn of(uuid: &str) -> Self {
        let part = uuid
            .strip_prefix(UUID_PREFIX)
            .is_some_and(|rest| !rest.starts_with("layer-"));
        if part { Self::Part } else { Self::Layer }
    }
}

/// Whether the filesystem on a device is frozen for a suspend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockfs {
    /// It is, so that what is on disk below is whole.
    Freeze,
    /// It is not: the switch changes nothing of what it reads.
    Skip,
}

/// What the device mapper says about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its number.
    pub devno: Devno,
    /// Its uuid; may be empty.
    pub uuid: String,
    /// How many have it open: mounts, programs, and devices made of it.
    pub open_count: u32,
    /// Whether its I/O is held back.
    pub suspended: bool,
    /// Whether a table waits in its inactive slot.
    pub inactive_table: bool,
}

/// The control device, open.
pub struct Dm {
    dm: DM,
}

impl fmt::Debug for Dm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Dm")
    }
}

impl Dm {
    /// Opens the control device, and has the module loaded where it is not.
    ///
    /// # Errors
    ///
    /// When there is no device mapper, or we are not root.
    pub fn open() -> Result<Self, DmError> {
        if !rustix::process::geteuid().is_root() {
            return Err(DmError::Permission);
        }
        let dm = DM::new().or_else(|_| {
            // The outcome shows in the second try.
            let _ = Command::new("modprobe").arg("dm-mod").status();
            DM::new()
        });
        dm.map(|dm| Self { dm })
            .map_err(|error| DmError::NoDeviceMapper(error.to_string()))
    }

    /// The control device's descriptor, for the kernel module, which switches by it.
    #[must_use]
    pub fn control(&self) -> BorrowedFd<'_> {
        self.dm.file().as_fd()
    }

    /// Makes a device with a table, resumed. Nothing of it is left where that fails.
    ///
    /// # Errors
    ///
    /// When the name is taken, or the kernel refuses the table.
    pub fn create(&self, identity: &DmIdentity, table: &[TableLine], role: Role) -> Result<Devno, DmError> {
        let name = dm_name(&identity.name)?;
        let uuid = DmUuid::new(&identity.uuid).map_err(|_| DmError::Name(identity.uuid.clone()))?;
        let failed = |action| move |error| call_error(action, &identity.name, error);
        let info = self
            .dm
            .device_create(name, Some(uuid), role.options())
            .map_err(failed(Action::Create))?;
        let id = DevId::Name(name);
        let started = self
            .dm
            .table_load(&id, &raw(table), role.options())
            .map_err(failed(Action::Load))
            .and_then(|_| {
                self.dm
                    .device_suspend(&id, without_readonly(role))
                    .map_err(failed(Action::Resume))
            })
            .and_then(|_| self.node(&identity.name));
        if let Err(error) = started {
            // The error that stopped us is the one to tell.
            let _ = self.remove(&identity.name);
            return Err(error);
        }
        Ok(info.device())
    }

    /// What is known about a device. `None`: there is none.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn info(&self, name: &str) -> Result<Option<Info>, DmError> {
        match self.dm.device_info(&DevId::Name(dm_name(name)?)) {
            Ok(info) => Ok(Some(Info {
                devno: info.device(),
                uuid: info.uuid().map(ToString::to_string).unwrap_or_default(),
                open_count: u32::try_from(info.open_count()).unwrap_or(0),
                suspended: info.flags().contains(DmFlags::DM_SUSPEND),
                inactive_table: info.flags().contains(DmFlags::DM_INACTIVE_PRESENT),
            })),
            Err(error) => match call_error(Action::Query, name, error) {
                DmError::Missing(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// The same, of a device that must be there.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn existing(&self, name: &str) -> Result<Info, DmError> {
        self.info(name)?.ok_or_else(|| DmError::Missing(name.to_owned()))
    }

    /// A device's number.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn devno(&self, name: &str) -> Result<Devno, DmError> {
        Ok(self.existing(name)?.devno)
    }

    /// A device's uuid, empty where it has none.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn uuid(&self, name: &str) -> Result<String, DmError> {
        Ok(self.existing(name)?.uuid)
    }

    /// Every device, by name.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn list(&self) -> Result<Vec<(String, Devno)>, DmError> {
        let devices = self
            .dm
            .list_devices()
            .map_err(|error| call_error(Action::Query, "any", error))?;
        Ok(devices
            .into_iter()
            .map(|(name, devno, _)| (name.to_string(), devno))
            .collect())
    }

    /// The table that a device runs on, devices as numbers.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn table(&self, name: &str) -> Result<Vec<TableLine>, DmError> {
        self.lines(name, DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH)
    }

    /// The table that waits in its inactive slot; empty where none does.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn inactive_table(&self, name: &str) -> Result<Vec<TableLine>, DmError> {
        self.lines(
            name,
            DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH | DmFlags::DM_QUERY_INACTIVE_TABLE,
        )
    }

    /// What the targets of a device report. Waits for no I/O.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn status(&self, name: &str) -> Result<Vec<TableLine>, DmError> {
        self.lines(name, DmFlags::DM_NOFLUSH)
    }

    /// What the `snapshot` or `snapshot-merge` of a top reports. `None`: it has no such table.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn snapshot_status(&self, name: &str) -> Result<Option<SnapshotStatus>, DmError> {
        Ok(self
            .status(name)?
            .first()
            .filter(|line| line.kind.starts_with("snapshot"))
            .map(|line| SnapshotStatus::parse(&line.params)))
    }

    fn lines(&self, name: &str, flags: DmFlags) -> Result<Vec<TableLine>, DmError> {
        let (_, lines) = self
            .dm
            .table_status(
                &DevId::Name(dm_name(name)?),
                DmOptions::default().set_flags(flags),
            )
            .map_err(|error| call_error(Action::Query, name, error))?;
        Ok(lines
            .into_iter()
            .map(|(start, sectors, kind, params)| TableLine {
                start,
                sectors,
                kind,
                params,
            })
            .collect())
    }

    /// Puts a table into a device's inactive slot; one that waited there is dropped first. (A `snapshot` in the slot would keep
    /// the kernel from handing the store over to the next one: `__validate_exception_handover` in drivers/md/dm-snap.c.)
    ///
    /// # Errors
    ///
    /// When the kernel refuses the table; the slot is empty then.
    pub fn load(&self, name: &str, table: &[TableLine]) -> Result<(), DmError> {
        self.clear(name)?;
        self.dm
            .table_load(&DevId::Name(dm_name(name)?), &raw(table), DmOptions::default())
            .map(drop)
            .map_err(|error| call_error(Action::Load, name, error))
    }

    /// Empties a device's inactive slot.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn clear(&self, name: &str) -> Result<(), DmError> {
        self.dm
            .table_clear(&DevId::Name(dm_name(name)?))
            .map(drop)
            .map_err(|error| call_error(Action::Clear, name, error))
    }

    /// Holds a device's I/O back.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or its filesystem is frozen by somebody else (before 6.6).
    pub fn suspend(&self, name: &str, lockfs: Lockfs) -> Result<(), DmError> {
        let options = DmOptions::default().set_flags(DmFlags::DM_SUSPEND | lockfs_flag(lockfs));
        self.dm
            .device_suspend(&DevId::Name(dm_name(name)?), options)
            .map(drop)
            .map_err(|error| call_error(Action::Suspend, name, error))
    }

    /// Lets a device's I/O go. Where a table waits in its inactive slot, the kernel suspends, swaps and resumes in this one call,
    /// so whoever is killed meanwhile leaves nothing suspended.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; the device runs on its old table then.
    pub fn resume(&self, name: &str, lockfs: Lockfs) -> Result<(), DmError> {
        let role = Role::of(&self.uuid(name)?);
        let options = without_readonly(role).set_flags(lockfs_flag(lockfs));
        self.dm
            .device_suspend(&DevId::Name(dm_name(name)?), options)
            .map(drop)
            .map_err(|error| call_error(Action::Resume, name, error))
    }

    /// Switches a device to another table that reads the same, and looks whether it is there. On an error nothing has changed
    /// (or, for [`DmError::NotSwitched`], somebody else interferes).
    ///
    /// # Errors
    ///
    /// When the kernel refuses the table or the switch.
    pub fn switch(&self, name: &str, table: &[TableLine]) -> Result<(), DmError> {
        self.load(name, table)?;
        if let Err(error) = self.resume(name, Lockfs::Skip) {
            // Best effort: it is the refusal that matters.
            let _ = self.clear(name);
            return Err(error);
        }
        let live = self.table(name)?;
        if same(table, &live) {
            Ok(())
        } else {
            Err(DmError::NotSwitched {
                name: name.to_owned(),
                expected: join(table),
                found: join(&live),
            })
        }
    }

    /// Makes a device go away. Tries again for a second while somebody looks at it, as udev does with new devices.
    ///
    /// # Errors
    ///
    /// When it stays in use.
    pub fn remove(&self, name: &str) -> Result<(), DmError> {
        self.dm
            .device_remove(&DevId::Name(dm_name(name)?), DmOptions::private())
            .map_err(|error| call_error(Action::Remove, name, error))?;
        if !udev_runs() {
            let _ = fs::remove_file(Path::new(NODES).join(name)); // we made it, if it is there
        }
        Ok(())
    }

    /// The same, and no error where there is none.
    ///
    /// # Errors
    ///
    /// When it stays in use.
    pub fn remove_if_there(&self, name: &str) -> Result<(), DmError> {
        match self.remove(name) {
            Err(DmError::Missing(_)) => Ok(()),
            other => other,
        }
    }

    /// The path to a device, `/dev/mapper/NAME`. Where no udev makes it, we do.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the node cannot be made.
    pub fn node(&self, name: &str) -> Result<PathBuf, DmError> {
        let devno = self.devno(name)?;
        let path = Path::new(NODES).join(name);
        let there = || blockdev::devno(&path).is_ok_and(|found| found == devno);
        let patience = Instant::now() + NODE_PATIENCE;
        while !there() && udev_runs() && Instant::now() < patience {
            sleep(Duration::from_millis(20));
        }
        if !there() {
            let _ = fs::remove_file(&path); // of a device that is gone
            mknodat(
                CWD,
                &path,
                FileType::BlockDevice,
                Mode::RUSR | Mode::WUSR,
                devno.into(),
            )
            .map_err(|errno| DmError::Node {
                path: path.clone(),
                cause: errno.into(),
            })?;
        }
        Ok(path)
    }
}

fn udev_runs() -> bool {
    Path::new("/run/udev/control").exists()
}

fn without_readonly(role: Role) -> DmOptions {
    role.options().set_flags(DmFlags::empty())
}

fn lockfs_flag(lockfs: Lockfs) -> DmFlags {
    match lockfs {
        Lockfs::Freeze => DmFlags::empty(),
        Lockfs::Skip => DmFlags::DM_SKIP_LOCKFS,
    }
}

fn dm_name(name: &str) -> Result<&DmName, DmError> {
    DmName::new(name).map_err(|_| DmError::Name(name.to_owned()))
}

fn raw(table: &[TableLine]) -> Vec<(u64, u64, String, String)> {
    table
        .iter()
        .map(|line| (line.start, line.sectors, line.kind.clone(), line.params.clone()))
        .collect()
}

/// The crate's errors, in our words.
fn call_error(action: Action, name: &str, error: devicemapper::DmError) -> DmError {
    let cause = match error {
        devicemapper::DmError::Core(errors::Error::Ioctl(_, _, _, errno)) => io::Error::from(*errno),
        other => io::Error::other(other.to_string()),
    };
    if cause.raw_os_error() == Some(libc::ENXIO) && action != Action::Create {
        return DmError::Missing(name.to_owned());
    }
    DmError::Call {
        action,
        name: name.to_owned(),
        remedy: action.remedy(&cause),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::Role;

    #[test]
    fn only_layers_are_for_users() {
        assert_eq!(Role::of("FREEZEFRAME-layer-srv"), Role::Layer);
        assert_eq!(Role::of("FREEZEFRAME-store-00c0ffee-0"), Role::Part);
        assert_eq!(Role::of("LVM-xyz"), Role::Layer);
        assert_eq!(Role::of(""), Role::Layer);
    }
}
