//! `/dev/freezeframe`: one safe method per ioctl. This file alone talks to the kernel module.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::OFlags;
use snap_common::abi;

use crate::failure::{Failure, Refusal};
use crate::how::How;

/// What stands between us and the module.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The module is not loaded.
    #[error("{} does not exist: the kernel module is not loaded; load it with `insmod freezeframe.ko`", .0.display())]
    NoModule(PathBuf),
    /// Not root.
    #[error("cannot open {}: permission denied; run as root (CAP_SYS_ADMIN)", .0.display())]
    Permission(PathBuf),
    /// Something else is wrong with the device.
    #[error("cannot open {}: {source}; reload the module, or name another device with --device", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not our device.
    #[error("{} is not the freezeframe device: {source}; name the right one with --device", path.display())]
    NotOurs {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Module and controller do not speak the same protocol.
    #[error(
        "the module {module_version} speaks ABI version {found}, this freezeframe {wanted}; \
         install module and controller of the same release"
    )]
    WrongAbi {
        /// The module's own version.
        module_version: String,
        /// Its ABI.
        found: u32,
        /// Ours.
        wanted: u32,
    },
    /// The module refused the snapshot, or could not take it.
    #[error(transparent)]
    Take(#[from] Failure),
}

/// Which process to snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its process id, in our pid namespace.
    pub pid: i32,
}

/// The disk's half of a take: what goes in, and what comes back, on success and failure. Empty: there is none.
#[derive(Debug)]
pub struct DiskCall {
    /// The filesystems, in the order in which they freeze.
    pub filesystems: Vec<abi::Fs>,
    /// What messages call them.
    pub filesystem_names: Vec<String>,
    /// The devices to switch.
    pub switches: Vec<abi::Switch>,
    /// What messages call them.
    pub switch_names: Vec<String>,
    /// The device mapper's control device, where there are switches; else -1.
    pub control: RawFd,
}

impl Default for DiskCall {
    fn default() -> Self {
        Self {
            filesystems: Vec::new(),
            filesystem_names: Vec::new(),
            switches: Vec::new(),
            switch_names: Vec::new(),
            control: -1,
        }
    }
}

/// What the module says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// Version of the protocol.
    pub abi_version: u32,
    /// `FEATURE_*` bits.
    pub features: u64,
    /// Snapshot fds open now.
    pub open_snapshots: u32,
    /// Version of the module.
    pub module_version: String,
}

/// The open device.
#[derive(Debug)]
pub struct Device {
    file: File,
}

impl Device {
    /// Opens the device and makes sure that the module speaks our protocol.
    ///
    /// # Errors
    ///
    /// When the module is not loaded, is another version, or we are not root.
    pub fn open(path: &Path) -> Result<Self, DeviceError> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => DeviceError::NoModule(path.to_owned()),
                io::ErrorKind::PermissionDenied => DeviceError::Permission(path.to_owned()),
                _ => DeviceError::Open {
                    path: path.to_owned(),
                    source,
                },
            })?;
        let device = Self { file };
        let info = device.info().map_err(|source| DeviceError::NotOurs {
            path: path.to_owned(),
            source,
        })?;
        if info.abi_version != abi::ABI_VERSION {
            return Err(DeviceError::WrongAbi {
                module_version: info.module_version,
                found: info.abi_version,
                wanted: abi::ABI_VERSION,
            });
        }
        Ok(device)
    }

    /// `FF_IOC_GET_INFO`.
    ///
    /// # Errors
    ///
    /// When it is not our device.
    pub fn info(&self) -> io::Result<Info> {
        let mut info = abi::Info {
            abi_version: 0,
            phase_count: 0,
            features: 0,
            max_targets: 0,
            open_snapshots: 0,
            module_version: [0; 32],
        };
        // SAFETY: IOC_GET_INFO writes one `struct ff_info`, which `info` is, and which outlives the call.
        unsafe { ioctl(&self.file, abi::IOC_GET_INFO, &raw mut info) }?;
        let version = info
            .module_version
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        Ok(Info {
            abi_version: info.abi_version,
            features: info.features,
            open_snapshots: info.open_snapshots,
            module_version: String::from_utf8_lossy(version).into_owned(),
        })
    }

    /// `FF_IOC_TAKE`: freezes the filesystems and the targets, arms their memory, switches the devices, thaws all of them. Blocks
    /// for as long as that takes; should this process be killed meanwhile, the module thaws by itself. `disk` tells what happened
    /// to filesystems and devices, on failure too: a device may have been switched before it.
    ///
    /// # Errors
    ///
    /// When the module refuses or fails; nothing is frozen then.
    pub fn take(&self, targets: &[Target], how: &How, disk: &mut DiskCall) -> Result<Snapshot, DeviceError> {
        let raw: Vec<_> = targets
            .iter()
            .map(|target| abi::Target {
                kind: abi::TARGET_PID,
                id: target.pid,
            })
            .collect();
        // SAFETY: `struct ff_take` is made of integers alone; all zeros is a valid one.
        let mut take: abi::Take = unsafe { std::mem::zeroed() };
        take.size = u32::try_from(size_of::<abi::Take>()).unwrap_or(0);
        take.targets = raw.as_ptr() as u64;
        take.target_count = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        take.deadline_ms = how.deadline_ms;
        take.arm = how.arm.to_raw();
        take.freeze = how.freeze.to_raw();
        take.flags = how.flags();
        take.filesystems = disk.filesystems.as_mut_ptr() as u64;
        take.fs_count = u32::try_from(disk.filesystems.len()).unwrap_or(u32::MAX);
        take.switches = disk.switches.as_mut_ptr() as u64;
        take.switch_count = u32::try_from(disk.switches.len()).unwrap_or(u32::MAX);
        take.dm_control = disk.control;
        // SAFETY: IOC_TAKE reads and writes one `struct ff_take`, which `take` is, reads `target_count` targets at `targets`,
        // which `raw` holds, and reads and writes the arrays of `disk`, with their lengths. All outlive the call.
        let done = unsafe { ioctl(&self.file, abi::IOC_TAKE, &raw mut take) };
        if let Err(source) = done {
            return Err(Failure::new(&Refusal::from_raw(&take.failure), targets, disk, source).into());
        }
        // SAFETY: the call succeeded, so the module installed this descriptor for us, and nobody else owns it.
        let file = unsafe { File::from_raw_fd(take.fd) };
        Ok(Snapshot { file, take })
    }
}

/// # Safety
///
/// `argument` is valid for the reads and writes that the module does for `request`.
unsafe fn ioctl<T>(file: &File, request: u64, argument: *mut T) -> io::Result<()> {
    // SAFETY: the caller's promise; the descriptor is open as long as `file` lives.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A snapshot: as long as it lives, the module holds the pages of the instant.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
    take: abi::Take,
}

impl Snapshot {
    /// What the module reported.
    #[must_use]
    pub fn take(&self) -> &abi::Take {
        &self.take
    }

    /// Size of the image in bytes.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        self.take.image_bytes
    }
}

/// Where the bytes of an image come from: a snapshot fd, or in tests a buffer.
pub trait ImageSource {
    /// Fills `buffer` with the bytes at `offset`.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or the image ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whole pages, without a copy where that can be.
    ///
    /// # Errors
    ///
    /// As [`ImageSource::read_exact_at`].
    fn pages(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; bytes];
        self.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.into())
    }

    /// The same, of data pages from `page` on that nobody will ask for again: they may be let go when the bytes are dropped.
    ///
    /// # Errors
    ///
    /// As [`ImageSource::read_exact_at`].
    fn last_pages(&self, offset: u64, bytes: usize, page: u64) -> io::Result<Bytes> {
        let _ = page;
        self.pages(offset, bytes)
    }

    /// How many pages of each stretch were written since the instant, as far as that can be told.
    ///
    /// # Errors
    ///
    /// When it cannot be asked.
    fn look(&self, stretches: &mut [abi::Stretch]) -> io::Result<()> {
        let _ = stretches;
        Ok(())
    }

    /// Nobody will ask for these data pages.
    ///
    /// # Errors
    ///
    /// When they cannot be let go.
    fn release(&self, page: u64, pages: u64) -> io::Result<()> {
        let _ = (page, pages);
        Ok(())
    }
}

impl Snapshot {
    /// `FF_IOC_RELEASE`: lets go of `pages` data pages from `page` on, which cannot be read again then. Those that are mapped stay.
    ///
    /// # Errors
    ///
    /// When some are mapped, or there are not as many.
    pub fn release(&self, page: u64, pages: u64) -> io::Result<abi::Release> {
        let mut release = abi::Release {
            page,
            pages,
            ..abi::Release::default()
        };
        // SAFETY: IOC_RELEASE reads and writes one `struct ff_release`, which `release` is, and which outlives the call.
        unsafe { ioctl(&self.file, abi::IOC_RELEASE, &raw mut release) }?;
        Ok(release)
    }

    /// `FF_IOC_LOOK`: how many pages are held, in all.
    ///
    /// # Errors
    ///
    /// When the caller is told to end.
    pub fn look(&self) -> io::Result<abi::Look> {
        let mut look = abi::Look::default();
        // SAFETY: IOC_LOOK reads and writes one `struct ff_look`, which `look` is, and which outlives the call; it has no stretches.
        unsafe { ioctl(&self.file, abi::IOC_LOOK, &raw mut look) }?;
        Ok(look)
    }

    /// `FF_IOC_LOOK`: who has the pages of these stretches. Fills in their `sole`.
    ///
    /// # Errors
    ///
    /// When a stretch is not within the data pages.
    pub fn look_at(&self, stretches: &mut [abi::Stretch]) -> io::Result<()> {
        for some in stretches.chunks_mut(abi::MAX_STRETCHES as usize) {
            let mut look = abi::Look {
                stretches: some.as_mut_ptr() as u64,
                count: u32::try_from(some.len()).unwrap_or(0),
                ..abi::Look::default()
            };
            // SAFETY: as above, and there are `count` stretches, which `some` has and which outlive the call.
            unsafe { ioctl(&self.file, abi::IOC_LOOK, &raw mut look) }?;
        }
        Ok(())
    }

    /// Maps `bytes` bytes from `offset` on, both multiples of a page.
    fn map(&self, offset: u64, bytes: usize) -> io::Result<Mapping> {
        let (protection, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, flags, &self.file, offset) }?;
        Ok(Mapping { start, bytes })
    }
}

impl ImageSource for Snapshot {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn pages(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        self.map(offset, bytes).map(Bytes::from_owner)
    }
}

/// A part of an image, as the module shows it: the very pages.
#[derive(Debug)]
struct Mapping {
    start: *mut std::ffi::c_void,
    bytes: usize,
}

// SAFETY: nobody writes to the pages, and the mapping is this value's alone, whoever has it.
unsafe impl Send for Mapping {}
// SAFETY: likewise.
unsafe impl Sync for Mapping {}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped as long as `self` lives; the pages of an image never change, and the module lets none go that is mapped.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, and nobody looks at it any more.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start, self.bytes) } {
            tell!("cannot unmap a part of an image: {error}");
        }
    }
}

impl ImageSource for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start
            .checked_add(buffer.len())
            .and_then(|end| self.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Can this path be the device? `O_PATH` needs no right to open it.
#[must_use]
pub fn exists(path: &Path) -> bool {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).is_ok()
}
