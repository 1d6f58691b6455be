//! Why a command about layers and snapshots on disk was not carried out.

use std::io;
use std::path::PathBuf;

use crate::disk::dm::DmError;
use crate::disk::store::StoreError;

/// Everything that can go wrong here. Nothing was changed, unless the message says so.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The device mapper's.
    #[error(transparent)]
    Dm(#[from] DmError),
    /// A store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or a device.
    #[error("cannot {what}: {cause}")]
    Io {
        /// What was being done, on what.
        what: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// No such ID.
    #[error("there is no snapshot {0}; see `freezeframe ls`")]
    NoSnapshot(String),
    /// An ID that is too short.
    #[error("{prefix} may be {ids}; name more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// What it may be.
        ids: String,
    },
    /// Two devices claim to be one store.
    #[error("{first} and {second} both hold the store {uuid}: one is a copy of the other; detach the copy, or clear it with `dd if=/dev/zero of=DEV bs=64K count=2`", first = devices.0.display(), second = devices.1.display())]
    Copies {
        /// The store.
        uuid: String,
        /// Where it was found.
        devices: (PathBuf, PathBuf),
    },
    /// A top is mounted or open.
    #[error("cannot {what}: {top} {user}; {remedy}")]
    Busy {
        /// What was to be done.
        what: String,
        /// The top.
        top: String,
        /// Who has it.
        user: String,
        /// What to do.
        remedy: String,
    },
    /// Somebody reads the frozen origin.
    #[error("cannot commit {id}: its frozen origin is in use ({user}), and would change under it; {remedy}")]
    OriginInUse {
        /// The snapshot.
        id: String,
        /// Who has it.
        user: String,
        /// What to do.
        remedy: String,
    },
    /// The command does not go with the state.
    #[error("cannot {what} {id}: {why}; {remedy}")]
    State {
        /// The command.
        what: &'static str,
        /// The snapshot.
        id: String,
        /// What is in the way.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// The merge stopped.
    #[error(
        "the merge of {id} into {top} has stopped at an error of a disk (see `dmesg`); everything still reads as it should; when the disk is well again, call `freezeframe commit {id}` again"
    )]
    MergeFailed {
        /// The snapshot.
        id: String,
        /// The top.
        top: String,
    },
    /// A layer cannot be added, started or removed.
    #[error("cannot {what} the layer {name}: {why}; {remedy}")]
    Layer {
        /// What was to be done.
        what: &'static str,
        /// The layer.
        name: String,
        /// What is in the way.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A filesystem that cannot have an overlay put over it.
    #[error("cannot put a union over {}: {why}; {remedy}", point.display())]
    Union {
        /// The mount point.
        point: PathBuf,
        /// What is in the way.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Some of several.
    #[error("{failed} of {all} layers are not {done}; the reasons are above")]
    Layers {
        /// How many failed.
        failed: usize,
        /// Of how many.
        all: usize,
        /// Started or stopped.
        done: &'static str,
    },
    /// The frozen filesystem cannot be mounted.
    #[error("cannot mount the frozen {kind} of {top} on {}: {cause}; {remedy}", point.display())]
    Mount {
        /// The filesystem.
        kind: String,
        /// The top it is of.
        top: String,
        /// Where.
        point: PathBuf,
        /// What the kernel said.
        cause: io::Error,
        /// What to do.
        remedy: String,
    },
    /// A mount point or a device that names none of the snapshot's.
    #[error("{wanted} is no device or mount point of snapshot {id}; it has {tops}")]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// The snapshot.
        id: String,
        /// What there is.
        tops: String,
    },
    /// There are several, and none was named.
    #[error("snapshot {id} has several devices: {tops}; name one with --fs or --device")]
    Several {
        /// The snapshot.
        id: String,
        /// What there is.
        tops: String,
    },
    /// Not one of ours.
    #[error("{} is not mounted by `freezeframe origin`; see `findmnt`", .0.display())]
    NoView(PathBuf),
}

/// Names what an I/O error is about.
pub trait Doing<T> {
    /// `what` goes behind "cannot".
    ///
    /// # Errors
    ///
    /// The same, named.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DiskError> {
        self.map_err(|error| DiskError::Io {
            what: what(),
            cause: error.into(),
        })
    }
}
