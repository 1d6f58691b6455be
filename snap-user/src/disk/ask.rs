//! What of the disk a take is asked to include.

use std::path::{Path, PathBuf, absolute};

use clap::{ArgGroup, Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::disk::record::AtShutdown;

/// What `--fs` takes besides mount points.
const AUTO: &str = "auto";

/// The arguments of `freezeframe take` that are about the disk.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("filesystems").args(["fs", "all"]).multiple(true))]
pub struct DiskArgs {
    /// Freeze these filesystems with the processes, so that memory and disk are of one instant; auto: those on which the processes have
    /// files open for writing
    #[arg(long, num_args = 1.., value_name = "MOUNT|auto")]
    pub fs: Vec<PathBuf>,
    /// Snapshot every process but this one, and freeze every mounted filesystem that has a device, and those that --fs names; less what
    /// --exempt names
    #[arg(long, conflicts_with = "pids")]
    pub all: bool,
    /// What becomes of a filesystem that --fs names and that cannot freeze. remount-ro: tmpfs, ramfs, overlay and FUSE are read-only for
    /// the instant, descriptors that are open included: writing by them fails then (EBADF)
    #[arg(
        long,
        value_enum,
        default_value = "fail",
        value_name = "MODE",
        requires = "fs"
    )]
    pub unfreezable: Unfreezable,
    /// Keep a filesystem as it is at the instant by making it read-only for good, with an overlay mounted over it: what is written from
    /// then on is in memory, and is lost when the machine stops. Nobody may have a file on it open for writing
    #[arg(long = "union", num_args = 1.., value_name = "MOUNT")]
    pub unions: Vec<PathBuf>,
    /// With --all, leave these out: processes by id or by name, filesystems by a mount point, which begins with a slash
    #[arg(long, num_args = 1.., value_name = "PID|NAME|MOUNT", requires = "all", conflicts_with = "pids")]
    pub exempt: Vec<String>,
    /// Keep the filesystems as they are at the instant: from then on, what is written goes to this block device
    #[arg(long, value_name = "DEV", requires = "filesystems")]
    pub snapblockdev: Option<PathBuf>,
    /// How much of an origin is copied at once, in sectors of 512 bytes: a power of two from 8 to 2048; else what its disk writes at once,
    /// 8 at the least
    #[arg(long, value_name = "SECTORS", requires = "snapblockdev", value_parser = chunk)]
    pub chunk: Option<u32>,
    /// Keep the snapshot when the machine shuts down; else what was written since is discarded then
    #[arg(long, requires = "snapblockdev")]
    pub keep: bool,
}

/// The smallest chunk is a page, the largest what the device mapper takes.
fn chunk(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(sectors) if (8..=2048).contains(&sectors) && sectors.is_power_of_two() => Ok(sectors),
        _ => Err("a power of two from 8 to 2048".to_owned()),
    }
}

/// What becomes of a filesystem that is named, and cannot freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Unfreezable {
    /// The take fails
    #[default]
    Fail,
    /// It is read-only for the instant, with the descriptors that are open for writing
    RemountRo,
}

/// Which filesystems.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystems {
    /// Those that are looked for.
    pub search: Search,
    /// The mount points of others.
    #[serde(default)]
    pub named: Vec<PathBuf>,
    /// The mount points of those that are left out.
    #[serde(default)]
    pub exempt: Vec<PathBuf>,
}

/// Which filesystems are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// None.
    #[default]
    None,
    /// Those on which the processes have files open for writing.
    Auto,
    /// Every one that has a device.
    All,
}

impl Filesystems {
    /// Whether none is asked for.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self.search, Search::None) && self.named.is_empty()
    }
}

/// What of the disk belongs to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// What freezes.
    pub filesystems: Filesystems,
    /// What becomes of those that are named, and cannot freeze.
    #[serde(default)]
    pub unfreezable: Unfreezable,
    /// Where an overlay takes what is written afterwards.
    #[serde(default)]
    pub unions: Vec<PathBuf>,
    /// Where what is written afterwards goes. `None`: nothing is switched.
    pub store: Option<PathBuf>,
    /// Sectors that are copied at once; `None`: as suits the device.
    pub chunk_sectors: Option<u32>,
    /// What becomes of it at shutdown.
    pub at_shutdown: AtShutdown,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            filesystems: Filesystems::default(),
            unfreezable: Unfreezable::Fail,
            unions: Vec::new(),
            store: None,
            chunk_sectors: None,
            at_shutdown: AtShutdown::Discard,
        }
    }
}

impl DiskArgs {
    /// The wish that the arguments make.
    #[must_use]
    pub fn wish(&self) -> Wish {
        let is_auto = |path: &PathBuf| path.as_os_str() == AUTO;
        let search = match self.all {
            true => Search::All,
            false if self.fs.iter().any(is_auto) => Search::Auto,
            false => Search::None,
        };
        let named = self.fs.iter().filter(|path| !is_auto(path));
        Wish {
            filesystems: Filesystems {
                search,
                named: named.map(|path| from_here(path)).collect(),
                exempt: self
                    .exempt
                    .iter()
                    .filter(|name| is_mount(name))
                    .map(PathBuf::from)
                    .collect(),
            },
            unfreezable: self.unfreezable,
            unions: self.unions.iter().map(|path| from_here(path)).collect(),
            store: self.snapblockdev.as_deref().map(from_here),
            chunk_sectors: self.chunk,
            at_shutdown: if self.keep {
                AtShutdown::Keep
            } else {
                AtShutdown::Discard
            },
        }
    }

    /// The processes that are left out, by id or name.
    #[must_use]
    pub fn exempt_processes(&self) -> Vec<String> {
        self.exempt
            .iter()
            .filter(|name| !is_mount(name))
            .cloned()
            .collect()
    }
}

fn is_mount(exempt: &str) -> bool {
    exempt.starts_with('/')
}

/// The daemon has another working folder.
fn from_here(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::chunk;

    #[test]
    fn chunks_are_powers_of_two() {
        assert_eq!(chunk("8"), Ok(8));
        assert_eq!(chunk("2048"), Ok(2048));
        for wrong in ["4", "12", "4096", "x", "-8"] {
            assert!(chunk(wrong).is_err(), "{wrong}");
        }
    }
}
