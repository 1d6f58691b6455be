//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};

use crate::archive::order::Order;
use crate::archive::plan::ParentImage;
use crate::disk::ask::DiskArgs;
use crate::disk::cli::DiskCommand;
use crate::drain::{Drain, DropBehind};
use crate::how::{Arm, Freeze, How, Room};
use crate::processes::Targets;
use crate::serve::OnOverflow;
use crate::stream::open::{Keys, Location, OpenError};
use crate::stream::options::{Size, StreamArgs};
use crate::stream::sink::Destination;
use crate::take::{Job, Request};
use crate::tools::flatten::FlattenArgs;
use crate::tools::input::{self, InputError};
use crate::tools::{ToolCommand, ToolError};

/// Where the daemon listens for requests.
const SOCKET: &str = "/run/freezeframe.sock";
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something else went wrong
  2  the command line makes no sense
  3  the kernel module is not loaded, or is of another version
  4  a target does not exist or cannot be snapshotted
  5  the output cannot be written
  6  not permitted: run as root
  7  a deadline passed, or a target did not settle
  8  not enough memory for the copies that the targets may force
  9  a filesystem or a block device cannot be snapshotted, or its store not used
  10 an image is damaged";

/// Snapshots of running processes: memory and registers at one instant, while they go on.
#[derive(Debug, Parser)]
#[command(name = "freezeframe", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take a snapshot of running processes
    Take(Box<TakeArgs>),
    /// Serve metrics for Prometheus, take snapshots on request, and watch the stores of those on disk
    Serve(ServeArgs),
    /// Stop a snapshot whose image the daemon is writing; nothing is left of the image
    Cancel(CancelArgs),
    /// Tell what this host can do, what is missing, and how to get it
    Doctor(DoctorArgs),
    /// Layers and snapshots on disk
    #[command(flatten)]
    Disk(DiskCommand),
    /// Images
    #[command(flatten)]
    Tool(ToolCommand),
    /// Join an incremental image and its parents into one that needs none
    Flatten(FlattenArgs),
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man(ManArgs),
}

/// `freezeframe take`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct TakeArgs {
    /// Processes to snapshot, all at the same instant
    #[arg(long = "pid", required_unless_present_any = ["fs", "all", "unions"], num_args = 1.., value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pids: Vec<i32>,
    /// Which filesystems with them.
    #[command(flatten)]
    pub disk: DiskArgs,
    /// Write the image there as a tar of manifest.json, the state of each process and its ELF core; - for standard output
    #[arg(short, long, value_name = "FILE|-|s3://BUCKET/KEY")]
    pub output: Option<Destination>,
    /// What is done to the image on its way.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// Write only the pages that have changed since this image, which must be of the last snapshot of these processes
    #[arg(long, value_name = "IMAGE|s3://BUCKET/KEY", requires = "output")]
    pub parent: Option<Location>,
    /// Decrypt that image with a key from this file, as age-keygen writes it
    #[arg(long, value_name = "FILE", requires = "parent")]
    pub parent_identity: Option<PathBuf>,
    /// Decrypt that image with the passphrase that is the first line of this file [default: that of --passphrase-file]
    #[arg(long, value_name = "FILE", requires = "parent")]
    pub parent_passphrase_file: Option<PathBuf>,
    /// Give the snapshot up when it holds more memory than this for itself alone, in bytes: pages that the processes have changed
    /// and that are not written yet
    #[arg(long, value_name = "BYTES", requires = "output")]
    pub max_memory: Option<Size>,
    /// Which pages are written first
    #[arg(long, value_enum, default_value = "likely", value_name = "ORDER", hide = true)]
    pub order: Order,
    /// Whether pages are let go as soon as they are written
    #[arg(long, value_enum, default_value = "on", value_name = "on|off", hide = true)]
    pub drop_behind: DropBehind,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// The longest that the processes may stand still, and that each of the freeze, the switch and the thaw of filesystems may take,
    /// in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=60000))]
    pub deadline: u32,
    /// How their memory is made copy-on-write
    #[arg(long, value_enum, default_value = "auto", value_name = "MODE")]
    pub arm: Arm,
    /// When a thread counts as still
    #[arg(long, value_enum, default_value = "auto", value_name = "MODE")]
    pub freeze: Freeze,
    /// Start over when a thread that slept in a system call ran on there while the memory was armed
    #[arg(long)]
    pub strict: bool,
    /// Go on even where there is not as much memory as the processes may force to be copied
    #[arg(long)]
    pub force: bool,
    /// Where that is so, have the kernel free page cache and swap first
    #[arg(long, conflicts_with = "force")]
    pub reclaim: bool,
    /// The kernel module's device
    #[arg(long, value_name = "PATH", default_value = snap_common::abi::DEVICE_PATH)]
    pub device: PathBuf,
    /// The daemon's socket; the device itself is used where no daemon answers
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
    /// Use the device itself, even where a daemon runs
    #[arg(long, conflicts_with = "socket")]
    pub no_daemon: bool,
}

impl TakeArgs {
    /// The request that the arguments make. Reads the passphrase and the parent's manifest.
    ///
    /// # Errors
    ///
    /// When they cannot be had.
    pub fn request(&self) -> anyhow::Result<Request> {
        let request = Request {
            job: Job {
                device: self.device.clone(),
                targets: if self.disk.all {
                    Targets::Everyone {
                        exempt: self.disk.exempt_processes(),
                    }
                } else {
                    Targets::Pids(self.pids.clone())
                },
                disk: self.disk.wish(),
                how: How {
                    deadline_ms: self.deadline,
                    arm: self.arm,
                    freeze: self.freeze,
                    strict: self.strict,
                    room: match (self.force, self.reclaim) {
                        (true, _) => Room::Ignored,
                        (false, true) => Room::Reclaimed,
                        (false, false) => Room::Needed,
                    },
                },
            },
            socket: (!self.no_daemon).then(|| self.socket.clone()),
            destination: self.output.clone(),
            drain: Drain {
                stream: self.stream.options()?,
                order: self.order,
                drop_behind: self.drop_behind,
                max_memory: self.max_memory.map(Size::bytes),
                parent: self.parent_image()?,
            },
        };
        Ok(request)
    }

    fn parent_image(&self) -> anyhow::Result<Option<ParentImage>> {
        let Some(parent) = &self.parent else {
            return Ok(None);
        };
        let passphrase = self.parent_passphrase_file.as_ref();
        let keys = Keys {
            identity: self.parent_identity.clone(),
            passphrase: passphrase.or(self.stream.passphrase_file.as_ref()).cloned(),
        };
        let reader = input::reader(parent, &keys).map_err(of_parent)?;
        Ok(Some(ParentImage::new(reader.manifest(), parent.file_name())))
    }
}

/// What opens a parent has options of its own.
fn of_parent(error: ToolError) -> anyhow::Error {
    let ToolError::Input(InputError::Open(closed)) = error else {
        return error.into();
    };
    match closed {
        OpenError::NoIdentity(parent) => {
            anyhow!("{parent} is encrypted; name the file with its key: --parent-identity FILE")
        }
        OpenError::NoPassphrase(parent) => anyhow!(
            "{parent} is encrypted with a passphrase; name a file that begins with it: --parent-passphrase-file FILE"
        ),
        OpenError::WrongPassphrase { .. } => {
            anyhow!("{closed}; name a file that begins with it: --parent-passphrase-file FILE")
        }
        other => ToolError::from(InputError::from(other)).into(),
    }
}

/// `freezeframe serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where Prometheus scrapes /metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9188")]
    pub listen: SocketAddr,
    /// Where snapshots are requested
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
    /// How often to look at the stores of active snapshots, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub watch_interval: u32,
    /// What to do when a store fills, besides saying so: extend gives it more of its device when a tenth or ten minutes are left;
    /// exec runs a command by the shell, when an hour, ten minutes or one are left (or a quarter, a tenth or a thirtieth) and when it
    /// has overflowed, with FREEZEFRAME_SNAPSHOT, _DEVICE, _USED_BYTES, _SIZE_BYTES, _OVERFLOW_SECONDS (empty where nobody knows) and
    /// _OVERFLOWED (0 or 1) in its environment
    #[arg(long, value_name = "warn|extend|exec:COMMAND", default_value = "warn")]
    pub on_overflow: OnOverflow,
    /// The kernel module's device
    #[arg(long, value_name = "PATH", default_value = snap_common::abi::DEVICE_PATH)]
    pub device: PathBuf,
}

/// `freezeframe cancel`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CancelArgs {
    /// The snapshot, by the id that the daemon tells at /api/v1/draining
    #[arg(value_name = "ID")]
    pub snapshot: u64,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// `freezeframe doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// The kernel module's device
    #[arg(long, value_name = "PATH", default_value = snap_common::abi::DEVICE_PATH)]
    pub device: PathBuf,
}

/// `freezeframe man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages go
    pub folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{CommandFactory as _, Parser as _};

    use super::{Cli, Command};
    use crate::disk::ask::{Filesystems, Search, Unfreezable};
    use crate::how::{Arm, Freeze, Room};
    use crate::processes::Targets;
    use crate::stream::sink::Destination;

    fn request(line: &str) -> crate::take::Request {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Take(args) => args.request().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pids_come_in_any_form() {
        assert_eq!(
            request("freezeframe take --pid 1 2 --pid 3").job.targets,
            Targets::Pids(vec![1, 2, 3])
        );
        assert!(Cli::try_parse_from(["freezeframe", "take"]).is_err());
        assert!(Cli::try_parse_from(["freezeframe", "take", "--pid", "0"]).is_err());
        assert!(Cli::try_parse_from(["freezeframe", "take", "--pid", "x"]).is_err());
    }

    #[test]
    fn the_modes_have_their_names() {
        let how = request("freezeframe take --pid 1 --arm lazy --freeze signal --strict")
            .job
            .how;
        assert_eq!(
            (how.arm, how.freeze, how.strict),
            (Arm::Lazy, Freeze::Signal, true)
        );
        let how = request("freezeframe take --pid 1").job.how;
        assert_eq!(
            (how.arm, how.freeze, how.strict),
            (Arm::Auto, Freeze::Auto, false)
        );
        assert!(Cli::try_parse_from(["freezeframe", "take", "--pid", "1", "--arm", "quick"]).is_err());
    }

    #[test]
    fn room_is_needed_made_or_ignored() {
        let room = |line| request(line).job.how.room;
        assert_eq!(room("freezeframe take --pid 1"), Room::Needed);
        assert_eq!(room("freezeframe take --pid 1 --reclaim"), Room::Reclaimed);
        assert_eq!(room("freezeframe take --pid 1 --force"), Room::Ignored);
    }

    #[test]
    fn filesystems_come_with_processes_or_alone() {
        let disk = |line: &str| request(line).job.disk;
        let filesystems = |search, named: &[&str], exempt: &[&str]| Filesystems {
            search,
            named: named.iter().map(PathBuf::from).collect(),
            exempt: exempt.iter().map(PathBuf::from).collect(),
        };
        for (line, wanted) in [
            ("--pid 1", filesystems(Search::None, &[], &[])),
            (
                "--fs /srv /home --snapblockdev /dev/x",
                filesystems(Search::None, &["/srv", "/home"], &[]),
            ),
            ("--pid 1 --fs auto", filesystems(Search::Auto, &[], &[])),
            (
                "--pid 1 --fs auto /srv",
                filesystems(Search::Auto, &["/srv"], &[]),
            ),
            ("--all --exempt sshd 7", filesystems(Search::All, &[], &[])),
            (
                "--all --exempt sshd /mnt/usb 7",
                filesystems(Search::All, &[], &["/mnt/usb"]),
            ),
            (
                "--all --fs /dev/shm --unfreezable remount-ro",
                filesystems(Search::All, &["/dev/shm"], &[]),
            ),
        ] {
            let line = format!("freezeframe take {line}");
            assert_eq!(disk(&line).filesystems, wanted, "{line}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            disk("freezeframe take --fs srv").filesystems.named,
            [here.join("srv")]
        );
        assert_eq!(disk("freezeframe take --fs /srv").unfreezable, Unfreezable::Fail);
        assert_eq!(
            disk("freezeframe take --union /srv --pid 1").unions,
            vec![PathBuf::from("/srv")]
        );
        let exempt = vec!["sshd".to_owned(), "7".to_owned()];
        let all = request("freezeframe take --all --exempt sshd /mnt/usb 7");
        assert_eq!(all.job.targets, Targets::Everyone { exempt });
        for wrong in [
            "freezeframe take --all --pid 1",
            "freezeframe take --pid 1 --exempt 2",
            "freezeframe take --pid 1 --unfreezable remount-ro",
            "freezeframe take --pid 1 --keep",
            "freezeframe take --pid 1 --snapblockdev /dev/x",
            "freezeframe take --union /srv --snapblockdev /dev/x",
            "freezeframe take --fs / --snapblockdev /dev/x --chunk 9",
        ] {
            assert!(Cli::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
    }

    #[test]
    fn outputs_are_told_apart() {
        let destination = |line| request(line).destination;
        assert_eq!(destination("freezeframe take --pid 1"), None);
        assert_eq!(
            destination("freezeframe take --pid 1 -o -"),
            Some(Destination::Stdout)
        );
        assert_eq!(
            destination("freezeframe take --pid 1 -o a.tar"),
            Some(Destination::File("a.tar".into()))
        );
        for wrong in [
            "--max-memory 1G",
            "--parent a.tar",
            "--output s3://bucket",
            "-o a --max-memory 0x1",
        ] {
            let line = format!("freezeframe take --pid 1 {wrong}");
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
