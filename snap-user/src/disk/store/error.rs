//! Why a store cannot be used, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::report::bytes;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened or read.
    #[error("cannot use {} as a store: {cause}; check that it is there, that it is a block device, and that you are root", device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Somebody else has it.
    #[error("cannot use {} as a store: {user}; name a device that nobody uses", device.display())]
    InUse {
        /// The device.
        device: PathBuf,
        /// Who.
        user: String,
    },
    /// Something else is on it.
    #[error("cannot use {device} as a store: it holds {content}; if that is not needed any more, clear it with `wipefs -a {device}`", device = device.display())]
    Content {
        /// The device.
        device: PathBuf,
        /// What.
        content: String,
    },
    /// It was a store with snapshots, and its first header is something else now.
    #[error("{device} was a store, of which only the second copy of the header is left, and snapshots are on it ({snapshots}); if they are not needed any more, give them up with `dd if=/dev/zero of={device} bs=64K count=2 conv=fsync`", device = device.display())]
    Former {
        /// The device.
        device: PathBuf,
        /// Their IDs; may be empty.
        snapshots: String,
    },
    /// Something else has been put on it that left the header.
    #[error("{device} has the header of a store, and holds {content} as well: nothing is written to it; if the store is not needed any more, end it with `dd if=/dev/zero of={device} bs=512 count=1 conv=fsync`", device = device.display())]
    Shared {
        /// The device.
        device: PathBuf,
        /// What.
        content: String,
    },
    /// It has no room for even an empty slice.
    #[error("cannot use {} as a store: it has {}, and a store needs 3 MiB at least", device.display(), bytes(sectors * 512))]
    TooSmall {
        /// The device.
        device: PathBuf,
        /// Its size.
        sectors: u64,
    },
    /// No header.
    #[error("{} is not a store of Freezeframe's; see `freezeframe ls`", .0.display())]
    NotOurs(PathBuf),
    /// A header of ours that cannot be read.
    #[error("the store on {device} is damaged: neither copy of its header is whole; look at the disk (`dmesg`), or give the store and all its snapshots up with `dd if=/dev/zero of={device} bs=64K count=2 conv=fsync`", device = .0.display())]
    Damaged(PathBuf),
    /// Made by a later Freezeframe.
    #[error("the store on {} is of version {version}, which this freezeframe does not know; use a later one", device.display())]
    Newer {
        /// The device.
        device: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The device is smaller than when the store was made.
    #[error("the store on {} has shrunk from {} to {}; give the device its size back", device.display(), bytes(was * 512), bytes(is * 512))]
    Shrunk {
        /// The device.
        device: PathBuf,
        /// Sectors when it was made.
        was: u64,
        /// Sectors now.
        is: u64,
    },
    /// The header cannot be written.
    #[error("cannot write the header of the store on {}: {cause}; look at the disk (`dmesg`)", device.display())]
    Write {
        /// The device.
        device: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The header has an end.
    #[error("the header of the store on {} is full; commit or discard a snapshot on it first (`freezeframe ls`)", .0.display())]
    HeaderFull(PathBuf),
    /// No room for more slices.
    #[error("the store on {} has {} free, and {} are needed; commit or discard a snapshot on it (`freezeframe ls`), or name a larger one", device.display(), bytes(free * 512), bytes(wanted * 512))]
    Full {
        /// The device.
        device: PathBuf,
        /// Sectors that no snapshot uses.
        free: u64,
        /// Sectors that are needed.
        wanted: u64,
    },
    /// The snapshot was committed or discarded by somebody else meanwhile.
    #[error("snapshot {id} is not on {} any more; see `freezeframe ls`", device.display())]
    Gone {
        /// The device.
        device: PathBuf,
        /// The snapshot.
        id: String,
    },
}
