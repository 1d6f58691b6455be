//! The command line of the verbs about layers and snapshots on disk.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::disk::commit::{Progress, commit};
use crate::disk::discard::{Discarded, at_shutdown, discard};
use crate::disk::extend::{Overflow, extend};
use crate::disk::layer::root::LostStore;
use crate::disk::layer::{self, Boot, Removed};
use crate::disk::origin::{self, View};
use crate::disk::{ls, record, union};
use crate::exit::Exit;
use crate::report::{bytes, duration};
use crate::words::{print, print_json};

/// The commands about layers and snapshots on disk.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// List the snapshots on disk: their state, how full their stores are, and how long they will last
    Ls(LsArgs),
    /// Print the path of a snapshot's frozen origin, or mount it read-only
    Origin(OriginArgs),
    /// Merge what was written since a snapshot into its origin, while the filesystem is in use; the snapshot is gone then
    Commit(CommitArgs),
    /// Go back to a snapshot's instant: what was written since is lost
    Discard(DiscardArgs),
    /// Give a snapshot more room on its store
    Extend(ExtendArgs),
    /// Devices below filesystems, so that these can be snapshotted
    #[command(subcommand)]
    Layer(LayerCommand),
}

/// `freezeframe ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
    /// How long to look at the rate at which the stores fill, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub interval: u32,
}

/// `freezeframe origin`.
#[derive(Debug, Args)]
pub struct OriginArgs {
    /// The snapshot, or as much of its ID as is unambiguous
    pub id: String,
    /// Mount the frozen filesystem there, read-only
    #[arg(long, value_name = "DIR", conflicts_with = "unmount")]
    pub mount: Option<PathBuf>,
    /// Unmount it again
    #[arg(long, value_name = "DIR")]
    pub unmount: Option<PathBuf>,
    /// Where there are several: the one that was mounted there
    #[arg(long, value_name = "MOUNTPOINT", requires = "mount")]
    pub fs: Option<String>,
    /// Where there are several: the one of that device
    #[arg(long, value_name = "DEVICE", requires = "mount", conflicts_with = "fs")]
    pub device: Option<String>,
    /// Mount through a snapshot of the origin that takes what a mount writes (as is done for xfs in any case)
    #[arg(long, requires = "mount")]
    pub view: bool,
    /// Print the paths as JSON
    #[arg(long, conflicts_with_all = ["mount", "unmount"])]
    pub json: bool,
}

/// `freezeframe commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// The snapshot, or as much of its ID as is unambiguous
    pub id: String,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

/// `freezeframe discard`.
#[derive(Debug, Args)]
pub struct DiscardArgs {
    /// The snapshot, or as much of its ID as is unambiguous
    pub id: String,
    /// When the machine shuts down in order, and not before
    #[arg(long)]
    pub at_shutdown: bool,
}

/// `freezeframe extend`.
#[derive(Debug, Args)]
pub struct ExtendArgs {
    /// The snapshot, or as much of its ID as is unambiguous
    pub id: String,
    /// By how much, with K, M, G or T behind it; otherwise until it cannot overflow, or its store is full
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub by: Option<u64>,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

/// `freezeframe layer`.
#[derive(Debug, Subcommand)]
pub enum LayerCommand {
    /// Add a layer over a partition or a volume that is not mounted
    Add {
        /// The partition or volume
        device: PathBuf,
        /// Its name: the layer is /dev/mapper/ff-NAME
        #[arg(long)]
        name: String,
        /// Until the next boot only
        #[arg(long)]
        no_boot: bool,
        /// From the next boot on only: for the root, and whatever else is mounted
        #[arg(long, conflicts_with = "no_boot")]
        at_boot: bool,
    },
    /// List the layers
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a layer that is not mounted
    Remove {
        /// Its name
        name: String,
    },
    /// Start the configured layers (at boot, before filesystems are mounted)
    Up {
        /// How long to wait for their devices, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait: u64,
        /// Only the layer that the root filesystem is on, named by its own path or by the device below it; print what to mount
        /// (in the initramfs, before that)
        #[arg(long, value_name = "DEVICE")]
        root: Option<PathBuf>,
        /// The options that the root will be mounted with
        #[arg(long, value_name = "OPTIONS", requires = "root", default_value = "")]
        rootflags: String,
        /// Start the root even where the store that it runs on is not there: what was written since the snapshot is lost
        #[arg(long, requires = "root")]
        without_store: bool,
    },
    /// Stop the configured layers (at shutdown, after filesystems are unmounted)
    Down {
        /// Stop none, and have the root's snapshots discarded (at shutdown, after the root is mounted read-only)
        #[arg(long)]
        root: bool,
    },
}

/// `64M` and the like.
fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(
        text.find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("a size is digits, with K, M, G or T behind them".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "a size is a number above 0 that fits 64 bits".to_owned())
}

/// Runs a command.
///
/// # Errors
///
/// See [`crate::disk::error::DiskError`].
pub fn run(command: &DiskCommand) -> anyhow::Result<Exit> {
    match command {
        DiskCommand::Ls(args) => {
            let listing = ls::list(Duration::from_millis(args.interval.into()))?;
            if args.json {
                print_json(&listing)?;
            } else {
                print(&listing.table())?;
            }
        }
        DiskCommand::Origin(args) => run_origin(args)?,
        DiskCommand::Commit(args) => {
            refuse_union("commit", &args.id)?;
            let progress = if args.json {
                Progress::Silent
            } else {
                Progress::Shown
            };
            let done = commit(&args.id, progress)?;
            if args.json {
                print_json(&done)?;
            } else {
                print(&format!(
                    "committed {} in {}: {}\n",
                    done.id,
                    duration(done.merge_ns),
                    done.tops.join(", ")
                ))?;
            }
        }
        DiskCommand::Discard(args) if args.at_shutdown => {
            refuse_union("wait for the shutdown to discard", &args.id)?;
            print(&format!(
                "{} will be discarded when the machine shuts down in order\n",
                at_shutdown(&args.id)?
            ))?;
        }
        DiskCommand::Discard(args) => run_discard(args)?,
        DiskCommand::Extend(args) => run_extend(args)?,
        DiskCommand::Layer(command) => run_layer(command)?,
    }
    Ok(Exit::Ok)
}

fn refuse_union(what: &'static str, prefix: &str) -> anyhow::Result<()> {
    match union::find(prefix)? {
        Some(union) => Err(union::life::not_for_unions(what, &union).into()),
        None => Ok(()),
    }
}

fn run_discard(args: &DiscardArgs) -> anyhow::Result<()> {
    if let Some(union) = union::find(&args.id)? {
        union::life::discard(&union)?;
        return print(&format!(
            "discarded {}: its filesystems are as at the instant\n",
            union.id
        ));
    }
    print(&match discard(&args.id)? {
        (id, Discarded::Snapshot) => format!("discarded {id}: its devices are as at the instant\n"),
        (id, Discarded::Leftover) => format!("cleaned up {id}: nothing had been switched\n"),
    })
}

fn run_origin_of_union(args: &OriginArgs, union: &union::Union) -> anyhow::Result<()> {
    let frozen = union::life::origins(union);
    if let Some(point) = &args.mount {
        union::life::show(union, point, args.fs.as_deref())?;
    } else if let Some(point) = &args.unmount {
        union::life::hide(union, point)?;
    } else if args.json {
        let frozen = frozen.into_iter().map(|(top, path)| origin::Frozen { top, path });
        print_json(&frozen.collect::<Vec<_>>())?;
    } else {
        for (_, path) in frozen {
            print(&format!("{}\n", path.display()))?;
        }
    }
    Ok(())
}

fn run_origin(args: &OriginArgs) -> anyhow::Result<()> {
    if let Some(union) = union::find(&args.id)? {
        return run_origin_of_union(args, &union);
    }
    if let Some(point) = &args.mount {
        let wanted = args.fs.as_deref().or(args.device.as_deref());
        let view = if args.view { View::Snapshot } else { View::ReadOnly };
        origin::mount(&args.id, point, wanted, view)?;
    } else if let Some(point) = &args.unmount {
        origin::unmount(&args.id, point)?;
    } else {
        let frozen = origin::paths(&args.id)?;
        if args.json {
            print_json(&frozen)?;
        } else {
            for one in frozen {
                print(&format!("{}\n", one.path.display()))?;
            }
        }
    }
    Ok(())
}

fn run_extend(args: &ExtendArgs) -> anyhow::Result<()> {
    refuse_union("extend", &args.id)?;
    let done = extend(&args.id, args.by)?;
    if args.json {
        return print_json(&done);
    }
    for one in done {
        let outlook = match (one.overflow, one.can_overflow) {
            (Overflow::Stays, _) => {
                "it has overflowed and stays so: unmount it, call `freezeframe extend` again, and mount it"
            }
            (Overflow::Cleared, _) => {
                "it had overflowed, and takes writes again: mount it (and check it with fsck)"
            }
            (Overflow::None, true) => "it may overflow",
            (Overflow::None, false) => "it cannot overflow",
        };
        print(&format!(
            "{}: {} more, {} now; {outlook}\n",
            one.top,
            bytes(one.added_bytes),
            bytes(one.store_bytes)
        ))?;
    }
    Ok(())
}

fn run_layer(command: &LayerCommand) -> anyhow::Result<()> {
    match command {
        LayerCommand::Add {
            device,
            name,
            no_boot,
            at_boot,
        } => {
            let boot = match (no_boot, at_boot) {
                (true, _) => Boot::OnceOnly,
                (false, true) => Boot::FromNext,
                (false, false) => Boot::Configured,
            };
            print(&layer::add(device, name, boot)?)?;
        }
        LayerCommand::Ls { json: true } => print_json(&layer::list()?)?,
        LayerCommand::Ls { json: false } => print(&layer::table(&layer::list()?))?,
        LayerCommand::Remove { name } => {
            let top = record::DmIdentity::layer(name).name;
            print(&match layer::remove(name)? {
                Removed::Now => format!("removed {top}; name what is below it in /etc/fstab\n"),
                Removed::FromNextBoot => format!(
                    "{top} goes with the next boot: call `update-initramfs -u -k all`, and name what is below it in /etc/fstab and in \
                     root= on the kernel's command line\n"
                ),
            })?;
        }
        LayerCommand::Up { wait, root: None, .. } => layer::up::up(Duration::from_secs(*wait))?,
        LayerCommand::Up {
            wait,
            root: Some(device),
            rootflags,
            without_store,
        } => {
            let lost = if *without_store {
                LostStore::GivenUp
            } else {
                LostStore::Refused
            };
            if let Some(path) = layer::root::up(device, Duration::from_secs(*wait), rootflags, lost)? {
                print(&format!("{}\n", path.display()))?;
            }
        }
        LayerCommand::Down { root: false } => layer::down::down()?,
        LayerCommand::Down { root: true } => layer::root::down()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("2T"), Ok(2 << 40));
        for text in ["", "0", "M", "1.5G", "64MB", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
