//! `freezeframe layer`: a passthrough device below a filesystem, so that there is a table to switch.
//!
//! A layer `ff-NAME` is all of a partition or a volume, one to one: nothing is written to it by being a layer, and the
//! filesystem mounts without it as it did before. It must be there before the filesystem is mounted, so `up` runs early at
//! boot, and it, not the filesystem, knows what a snapshot has made of it.

mod armed;
mod back;
pub mod config;
pub mod down;
pub mod peek;
pub mod root;
pub mod up;

use std::path::Path;

use serde::Serialize;

use crate::disk::blockdev;
use crate::disk::dm::{Dm, Role};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::record::{DmIdentity, TableLine, UUID_PREFIX};
use crate::disk::slot::{self, Found};
use crate::disk::store::Store;
use crate::disk::{find, live, probe};

use config::{Config, Entry};

/// Whether a layer is there after the next boot too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// It is.
    Configured,
    /// From then on, and not before: its filesystem is mounted now.
    FromNext,
    /// It is not.
    OnceOnly,
}

/// A layer, as `ls --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerEntry {
    /// Its name.
    pub name: String,
    /// What it is a layer over.
    pub device: String,
    /// Its own device, where it is up.
    pub path: Option<String>,
    /// Where it is mounted.
    pub mounts: Vec<String>,
    /// The snapshots of it.
    pub snapshots: Vec<String>,
    /// Whether it comes at boot.
    pub boot: bool,
}

fn refusal(what: &'static str, name: &str, why: impl Into<String>, remedy: impl Into<String>) -> DiskError {
    DiskError::Layer {
        what,
        name: name.to_owned(),
        why: why.into(),
        remedy: remedy.into(),
    }
}

/// Adds a layer over a device that nobody uses; or has one added at the next boot, over a device whatever it is used for.
///
/// # Errors
///
/// When somebody uses it, it is one of ours, or the name is taken.
pub fn add(device: &Path, name: &str, boot: Boot) -> Result<String, DiskError> {
    let refuse = |why: String, remedy: &str| refusal("add", name, why, remedy);
    check_name(name)?;
    let shown = device.display();
    let devno = blockdev::devno(device).doing(|| format!("add a layer over {shown}"))?;
    if blockdev::dm_uuid(devno).is_some_and(|uuid| uuid.starts_with(UUID_PREFIX)) {
        return Err(refuse(
            format!("{shown} is a device of Freezeframe's own"),
            "name the partition or the volume that is below it",
        ));
    }
    let file = std::fs::File::open(device).doing(|| format!("open {shown}"))?;
    if !matches!(
        slot::read(&file).doing(|| format!("read {shown}"))?,
        Found::Nothing | Found::Former(_)
    ) {
        return Err(refuse(
            format!("{shown} is a store (see `freezeframe ls`)"),
            "name the device of a filesystem",
        ));
    }
    if boot != Boot::FromNext
        && let Some(user) = probe::user_of(device).doing(|| format!("look who uses {shown}"))?
    {
        return Err(refuse(
            format!("{shown} cannot be taken: {user}"),
            "a layer goes below a filesystem before that is mounted: unmount it first, or add the layer with --at-boot",
        ));
    }
    let lasting = blockdev::stable_path(devno).unwrap_or_else(|| device.to_owned());
    let locked = match boot {
        Boot::Configured | Boot::FromNext => Some(Config::lock()?),
        Boot::OnceOnly => None,
    };
    match &locked {
        Some(locked) => locked.config.check(name, devno)?,
        None => Config::read()?.check(name, devno)?,
    }
    let dm = Dm::open()?;
    let identity = DmIdentity::layer(name);
    if dm.info(&identity.name)?.is_some() {
        return Err(refuse(
            format!("there is a dm device {} already", identity.name),
            "choose another name, or see `freezeframe layer ls`",
        ));
    }
    let sectors = blockdev::sectors(&file).doing(|| format!("find the size of {shown}"))?;
    drop(file);
    if sectors == 0 {
        return Err(refuse(
            format!("{shown} has no size"),
            "name a partition or a volume",
        ));
    }
    let configure = || match locked {
        Some(mut locked) => {
            locked.config.entries.push(Entry {
                name: name.to_owned(),
                device: lasting.clone(),
            });
            locked.write()
        }
        None => Ok(()),
    };
    if boot == Boot::FromNext {
        configure()?;
        return Ok(advice_for_later(name, device, &lasting));
    }
    let table = [passthrough(sectors, devno)];
    dm.create(&identity, &table, Role::Layer)?;
    if let Err(error) = configure() {
        // The configuration's error is the one to tell.
        let _ = dm.remove(&identity.name);
        return Err(error);
    }
    let path = dm.node(&identity.name)?;
    Ok(advice(&path, &lasting, boot))
}

fn passthrough(sectors: u64, device: impl std::fmt::Display) -> TableLine {
    TableLine {
        start: 0,
        sectors,
        kind: "linear".to_owned(),
        params: format!("{device} 0"),
    }
}

/// Names that make good device names, and are none of our own parts'.
fn check_name(name: &str) -> Result<(), DiskError> {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let ours = ["origin-", "store-", "view-"]
        .iter()
        .any(|role| name.starts_with(role));
    if name.is_empty() || name.len() > 64 || !name.chars().all(letters) || ours {
        return Err(refusal(
            "add",
            name,
            "that is no name for one",
            "use up to 64 letters, digits and `_.-`, and none that begins with origin-, store- or view-",
        ));
    }
    Ok(())
}

fn advice(path: &Path, device: &Path, boot: Boot) -> String {
    let kind = probe::filesystem(path).map_or_else(|| "TYPE".to_owned(), |(kind, _)| kind);
    let path = path.display();
    let mut text = format!(
        "{path} is {} and can be mounted in its place:\n  mount {path} MOUNTPOINT\n",
        device.display()
    );
    match boot {
        Boot::Configured => {
            text += &format!(
                "In /etc/fstab name it by that path, for its UUID= and LABEL= are those of {} too:\n  {path} MOUNTPOINT {kind} defaults 0 2\n\
                 It is started before that at boot by freezeframe-layers.service: systemctl enable freezeframe-layers.service\n",
                device.display()
            );
        }
        Boot::FromNext | Boot::OnceOnly => text += "It is gone after the next boot (--no-boot).\n",
    }
    text
}

/// For a layer that is only configured: what has to know of it before the next boot.
fn advice_for_later(name: &str, device: &Path, lasting: &Path) -> String {
    let top = DmIdentity::layer(name).name;
    let is_root = blockdev::devno(device).is_ok_and(|below| {
        // By itself, or by a layer that it has now.
        let layers = blockdev::holders(below).into_iter().filter(|holder| {
            blockdev::dm_uuid(*holder).is_some_and(|uuid| uuid.starts_with(&format!("{UUID_PREFIX}layer-")))
        });
        layers
            .chain([below])
            .filter_map(|devno| live::mounts_of(devno).ok())
            .flatten()
            .any(|mount| mount.point == Path::new("/"))
    });
    let mut text = format!(
        "{top} will be a layer over {} from the next boot on.\n",
        lasting.display()
    );
    text += &if is_root {
        format!(
            "The root filesystem is mounted through it by the initramfs: call `update-initramfs -u -k all` now. It does so whatever \
             root= on the kernel's command line names; root=/dev/mapper/{top} says what happens.\n\
             In /etc/fstab name / as /dev/mapper/{top}, for its UUID= is that of {} too.\n",
            lasting.display()
        )
    } else {
        format!(
            "In /etc/fstab name its filesystem as /dev/mapper/{top}, for its UUID= is that of {} too.\n\
             It is started before that at boot by freezeframe-layers.service: systemctl enable freezeframe-layers.service\n",
            lasting.display()
        )
    };
    text
}

/// The layers that are up or configured.
///
/// # Errors
///
/// When the configuration or the device mapper cannot be read.
pub fn list() -> Result<Vec<LayerEntry>, DiskError> {
    let (config, dm, stores) = (Config::read()?, Dm::open()?, find::stores()?);
    let mut entries: Vec<_> = config
        .entries
        .iter()
        .map(|entry| layer(&dm, &stores, &entry.name, Some(entry)))
        .collect::<Result<_, _>>()?;
    for (top, _) in dm.list()? {
        if let Some(name) = dm.uuid(&top)?.strip_prefix(&format!("{UUID_PREFIX}layer-"))
            && !config.entries.iter().any(|entry| entry.name == name)
        {
            entries.push(layer(&dm, &stores, name, None)?);
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn layer(dm: &Dm, stores: &[Store], name: &str, entry: Option<&Entry>) -> Result<LayerEntry, DiskError> {
    let top = DmIdentity::layer(name).name;
    let info = dm.info(&top)?;
    let mounts = match &info {
        Some(info) => live::mounts_of(info.devno)?,
        None => Vec::new(),
    };
    let device = match (entry, &info) {
        (Some(entry), _) => entry.device.display().to_string(),
        (None, Some(_)) => below(dm, &top)?,
        (None, None) => String::new(),
    };
    Ok(LayerEntry {
        name: name.to_owned(),
        device,
        path: info.map(|_| format!("/dev/mapper/{top}")),
        mounts: mounts
            .into_iter()
            .map(|mount| mount.point.display().to_string())
            .collect(),
        snapshots: snapshots_of(stores, &top),
        boot: entry.is_some(),
    })
}

/// What a layer that stands in no configuration is over: its table tells, or its origin's.
fn below(dm: &Dm, top: &str) -> Result<String, DiskError> {
    let mut name = top.to_owned();
    for _ in 0..2 {
        let table = dm.table(&name)?;
        let Some(devno) = table
            .first()
            .and_then(|line| line.params.split_whitespace().next()?.parse().ok())
        else {
            break;
        };
        match blockdev::dm_name(devno) {
            Some(part) if part.starts_with("ff-origin-") => name = part,
            _ => {
                return Ok(blockdev::stable_path(devno)
                    .map_or_else(|| devno.to_string(), |path| path.display().to_string()));
            }
        }
    }
    Ok(String::new())
}

fn snapshots_of(stores: &[Store], top: &str) -> Vec<String> {
    stores
        .iter()
        .flat_map(|store| &store.state().snapshots)
        .filter(|record| record.devices.iter().any(|device| device.top == top))
        .map(|record| record.id.clone())
        .collect()
}

/// For people.
#[must_use]
pub fn table(entries: &[LayerEntry]) -> String {
    if entries.is_empty() {
        return "no layers; add one with `freezeframe layer add DEVICE --name NAME`\n".to_owned();
    }
    let mut text = format!(
        "{:<16}  {:<40}  {:<4}  {:<24}  SNAPSHOTS\n",
        "NAME", "OVER", "UP", "MOUNTED ON"
    );
    for entry in entries {
        text += &format!(
            "{:<16}  {:<40}  {:<4}  {:<24}  {}\n",
            entry.name,
            entry.device,
            if entry.path.is_some() { "yes" } else { "no" },
            entry.mounts.first().map_or("-", String::as_str),
            if entry.snapshots.is_empty() {
                "-".to_owned()
            } else {
                entry.snapshots.join(" ")
            },
        );
    }
    text
}

/// How much of a layer has been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// All of it.
    Now,
    /// What stands in the configuration: the root is on it, until the next boot.
    FromNextBoot,
}

/// Removes a layer that nobody has mounted and no snapshot is of. That of the root stays until the next boot.
///
/// # Errors
///
/// When there is one, or it is no layer of ours.
pub fn remove(name: &str) -> Result<Removed, DiskError> {
    let top = DmIdentity::layer(name).name;
    let dm = Dm::open()?;
    let config = Config::read()?;
    let configured = config.entries.iter().any(|entry| entry.name == name);
    let info = dm.info(&top)?;
    if !configured && info.is_none() {
        return Err(refusal(
            "remove",
            name,
            "there is none",
            "see `freezeframe layer ls`",
        ));
    }
    if let Some(id) = snapshots_of(&find::stores()?, &top).first() {
        return Err(refusal(
            "remove",
            name,
            format!("there is a snapshot of it, {id}"),
            format!("commit or discard that first: `freezeframe commit {id}`"),
        ));
    }
    let mut removed = Removed::Now;
    if configured && root::is_on(&dm, &top)? {
        removed = Removed::FromNextBoot;
    } else if let Some(info) = info {
        if info.uuid != DmIdentity::layer(name).uuid {
            return Err(refusal(
                "remove",
                name,
                format!("{top} is not ours"),
                "see `dmsetup info`",
            ));
        }
        live::unused(
            &dm,
            &top,
            || format!("remove the layer {name}"),
            |user| match user.strip_prefix("is mounted on ") {
                Some(point) => format!("unmount it with `umount {point}`"),
                None => "close it".to_owned(),
            },
        )?;
        dm.remove(&top)?;
    }
    if configured {
        // Read again: others may have changed it meanwhile.
        let mut locked = Config::lock()?;
        locked.config.entries.retain(|entry| entry.name != name);
        locked.write()?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::{Boot, advice, check_name, passthrough, table};

    #[test]
    fn names_are_plain() {
        assert!(check_name("srv-1.db_x").is_ok());
        for name in ["", "a b", "a/b", "origin-1", "store-x", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_printed_can_be_copied() {
        let text = advice(
            "/dev/mapper/ff-x".as_ref(),
            "/dev/sdb1".as_ref(),
            Boot::Configured,
        );
        assert!(
            text.contains("/dev/mapper/ff-x MOUNTPOINT TYPE defaults 0 2"),
            "{text}"
        );
        assert_eq!(passthrough(8, "8:1").to_string(), "0 8 linear 8:1 0");
        assert!(table(&[]).contains("layer add"));
    }
}
