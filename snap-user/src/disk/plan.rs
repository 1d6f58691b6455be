//! Which devices a take switches, and why others cannot be: found out before anything changes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::blockdev::{self, Devno};
use crate::disk::choose::Chosen;
use crate::disk::dm::{Dm, DmError};
use crate::disk::mounts::{self, Mount};
use crate::disk::record::{TableLine, UUID_PREFIX};
use crate::disk::stack;

/// Targets whose tables may stand below a snapshot: they map sectors to sectors and have no state of their own.
const PLAIN: [&str; 2] = ["linear", "striped"];
/// The smallest chunk, in sectors: a page.
const CHUNK: u32 = 8;

/// Why a device cannot be switched. Nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No device-mapper device.
    #[error(
        "cannot switch {mount} to a snapshot: it is on {device}, which is no device-mapper device; unmount it, run \
         `freezeframe layer add {device} --name NAME`, and mount /dev/mapper/ff-NAME instead, or leave it out (with --all: --exempt {mount})"
    )]
    Bare {
        /// The mount point.
        mount: String,
        /// The device.
        device: String,
    },
    /// Somebody else loads its tables.
    #[error(
        "cannot switch {mount} to a snapshot: {owner} loads the tables of {device}, and would undo the switch while it is mounted; \
         unmount it, run `freezeframe layer add /dev/mapper/{device} --name NAME`, and mount /dev/mapper/ff-NAME instead, or leave it out (with --all: \
         --exempt {mount})"
    )]
    Owned {
        /// The mount point.
        mount: String,
        /// The device.
        device: String,
        /// By whom.
        owner: String,
    },
    /// It has a snapshot already.
    #[error(
        "cannot switch {mount} to a snapshot: {device} has one already; commit or discard that first, see `freezeframe ls`"
    )]
    Taken {
        /// The mount point.
        mount: String,
        /// The device.
        device: String,
    },
    /// A target that is not plain.
    #[error(
        "cannot switch {mount} to a snapshot: {device} has a target `{target}`, and only linear and striped ones can be; put a layer \
         on it with `freezeframe layer add /dev/mapper/{device} --name NAME`, or leave it out (with --all: --exempt {mount})"
    )]
    Target {
        /// The mount point.
        mount: String,
        /// The device.
        device: String,
        /// The target.
        target: String,
    },
    /// It waits for something.
    #[error("cannot switch {mount} to a snapshot: {device} {what}; {remedy}")]
    Unsettled {
        /// The mount point.
        mount: String,
        /// The device.
        device: String,
        /// What it is in the middle of.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Memory would be waited for that cannot be read.
    #[error(
        "cannot switch {mount} to a snapshot: its device holds the swap area {swap}; turn that off with `swapoff {swap}`, or leave it \
         out (with --all: --exempt {mount})"
    )]
    Swap {
        /// The mount point.
        mount: String,
        /// The swap area.
        swap: String,
    },
    /// The store rests on what freezes.
    #[error("cannot use {store} as the store: it lies on {mount}, which freezes; name a device of its own")]
    StoreBelow {
        /// The store.
        store: String,
        /// The mount point.
        mount: String,
    },
    /// Nothing is known about a device.
    #[error("cannot look at the swap areas: {0}; is /proc mounted?")]
    Swaps(std::io::Error),
    /// The device mapper.
    #[error(transparent)]
    Dm(#[from] DmError),
}

/// A device that will be switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Its dm name.
    pub name: String,
    /// Its dm uuid; may be empty.
    pub uuid: String,
    /// Its number.
    pub devno: Devno,
    /// Its size.
    pub sectors: u64,
    /// The table that it has, devices by number.
    pub table: Vec<TableLine>,
    /// The index of its filesystem.
    pub filesystem: usize,
    /// The chunk that suits it: no smaller than what its disk writes at once.
    pub chunk_sectors: u32,
}

/// The devices of these filesystems, each fit to be switched.
///
/// # Errors
///
/// When one is not, with the ways out.
pub fn tops(chosen: &[Chosen], store: &Path, dm: &Dm) -> Result<Vec<Top>, PlanError> {
    let mounts = mounts::mounts().map_err(PlanError::Swaps)?;
    let swaps = stack::swaps(&mounts).map_err(PlanError::Swaps)?;
    let mut tops = Vec::new();
    for (index, filesystem) in chosen.iter().enumerate() {
        let mount = filesystem.mount.point.display().to_string();
        for device in &filesystem.devices {
            if let Some((swap, _)) = swaps.iter().find(|(_, below)| below.contains(device)) {
                return Err(PlanError::Swap {
                    mount,
                    swap: swap.display().to_string(),
                });
            }
            tops.push(top(&mount, *device, index, dm)?);
        }
    }
    refuse_store(store, chosen, &mounts)?;
    Ok(tops)
}

fn top(mount: &str, devno: Devno, filesystem: usize, dm: &Dm) -> Result<Top, PlanError> {
    let mount = mount.to_owned();
    let Some(name) = blockdev::dm_name(devno) else {
        let node = blockdev::kernel_node(devno).unwrap_or_else(|| PathBuf::from(devno.to_string()));
        return Err(PlanError::Bare {
            mount,
            device: node.display().to_string(),
        });
    };
    let info = dm.existing(&name)?;
    let device = name.clone();
    let unsettled = |what, remedy| PlanError::Unsettled {
        mount: mount.clone(),
        device: device.clone(),
        what,
        remedy,
    };
    if let Some(owner) = owner(&info.uuid) {
        return Err(PlanError::Owned { mount, device, owner });
    }
    if info.suspended {
        return Err(unsettled("is suspended", "resume it with `dmsetup resume`"));
    }
    let table = dm.table(&name)?;
    let odd = |line: &&TableLine| !PLAIN.contains(&line.kind.as_str());
    if let Some(line) = table.iter().find(odd) {
        let target = line.kind.clone();
        return Err(if target.starts_with("snapshot") {
            PlanError::Taken { mount, device }
        } else {
            PlanError::Target {
                mount,
                device,
                target,
            }
        });
    }
    if info.inactive_table {
        return Err(unsettled(
            "has a table in its inactive slot, which somebody is about to switch to",
            "clear it with `dmsetup clear`, or discard the abandoned snapshot (`freezeframe ls`)",
        ));
    }
    Ok(Top {
        sectors: table.iter().map(|line| line.sectors).sum(),
        chunk_sectors: chunk_for(devno),
        uuid: info.uuid,
        name,
        devno,
        table,
        filesystem,
    })
}

/// Who loads the tables of a device with this uuid, unless it is us or nobody. The part in front of the first dash says so,
/// by convention.
fn owner(uuid: &str) -> Option<String> {
    if uuid.starts_with(UUID_PREFIX) {
        return None;
    }
    let (prefix, _) = uuid.split_once('-')?;
    Some(match prefix {
        "LVM" => "LVM".to_owned(),
        "CRYPT" => "cryptsetup".to_owned(),
        "mpath" => "multipath".to_owned(),
        part if part.starts_with("part") => "kpartx".to_owned(),
        other => other.to_owned(),
    })
}

fn chunk_for(devno: Devno) -> u32 {
    let path = blockdev::sysfs(devno).join("queue/physical_block_size");
    let bytes = fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim_end().parse::<u32>().ok());
    (bytes.unwrap_or(0) / 512).next_power_of_two().clamp(CHUNK, 2048)
}

/// What is written while the filesystems are frozen goes to the store, so it must not wait for them.
fn refuse_store(store: &Path, chosen: &[Chosen], mounts: &[Mount]) -> Result<(), PlanError> {
    let Ok(devno) = blockdev::devno(store) else {
        return Ok(()); // its own error says more
    };
    let below = stack::below(devno);
    let resting = stack::filesystems_below(devno, mounts);
    for filesystem in chosen {
        if resting.iter().any(|mount| mount.devno == filesystem.mount.devno)
            || filesystem.devices.iter().any(|device| below.contains(device))
        {
            return Err(PlanError::StoreBelow {
                store: store.display().to_string(),
                mount: filesystem.mount.point.display().to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn a_device_is_ours_nobodys_or_somebodys() {
        assert_eq!(owner(""), None);
        assert_eq!(owner("FREEZEFRAME-layer-srv"), None);
        assert_eq!(owner("mine"), None);
        assert_eq!(owner("LVM-abc").as_deref(), Some("LVM"));
        assert_eq!(owner("CRYPT-LUKS2-abc").as_deref(), Some("cryptsetup"));
        assert_eq!(owner("part1-mpath-x").as_deref(), Some("kpartx"));
        assert_eq!(owner("DOCKER-x").as_deref(), Some("DOCKER"));
    }
}
