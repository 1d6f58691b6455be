//! The device, with nothing between the test and the ioctl.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use snap_common::abi;

/// The open device.
pub struct Device(pub File);

/// What a failed take reports.
#[derive(Debug)]
pub struct Failed {
    /// The errno.
    pub error: io::Error,
    /// `REASON_*`.
    pub reason: u32,
    /// Index of the target, or -1.
    pub target: i32,
    /// As the reason says.
    pub detail: u64,
}

/// How to take; all zeros is what a user gets who asks for nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// `ARM_*`.
    pub arm: u32,
    /// `FREEZE_*`.
    pub freeze: u32,
    /// `TAKE_*`.
    pub flags: u32,
    /// The longest that a target may stand still; 0: as the module has it.
    pub deadline_ms: u32,
}

impl How {
    /// The argument of `FF_IOC_TAKE`, of nothing yet.
    fn take(self) -> abi::Take {
        // SAFETY: made of integers alone.
        let mut take: abi::Take = unsafe { std::mem::zeroed() };
        take.size = u32::try_from(size_of::<abi::Take>()).expect("small");
        take.deadline_ms = self.deadline_ms;
        take.arm = self.arm;
        take.freeze = self.freeze;
        take.flags = self.flags;
        take
    }
}

impl Device {
    /// Opens it.
    ///
    /// # Panics
    ///
    /// When the module is not loaded.
    #[must_use]
    pub fn open() -> Self {
        Self(
            File::options()
                .read(true)
                .write(true)
                .open(abi::DEVICE_PATH)
                .expect("the module is loaded"),
        )
    }

    /// `FF_IOC_GET_INFO`.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[must_use]
    pub fn info(&self) -> abi::Info {
        // SAFETY: made of integers alone.
        let mut info: abi::Info = unsafe { std::mem::zeroed() };
        // SAFETY: the request writes one `struct ff_info`.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), abi::IOC_GET_INFO, &raw mut info) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        info
    }

    /// Snapshot fds open now, whoever holds them.
    #[must_use]
    pub fn open_snapshots(&self) -> u32 {
        self.info().open_snapshots
    }

    /// `FF_IOC_TAKE` of processes.
    ///
    /// # Errors
    ///
    /// As the module has it.
    pub fn take(&self, pids: &[i32], deadline_ms: u32) -> Result<Snapshot, Failed> {
        self.take_how(
            pids,
            How {
                deadline_ms,
                ..How::default()
            },
        )
    }

    /// `FF_IOC_TAKE` of processes, in a certain way.
    ///
    /// # Errors
    ///
    /// As the module has it.
    pub fn take_how(&self, pids: &[i32], how: How) -> Result<Snapshot, Failed> {
        let targets: Vec<_> = pids
            .iter()
            .map(|pid| abi::Target {
                kind: abi::TARGET_PID,
                id: *pid,
            })
            .collect();
        self.take_targets(&targets, how)
    }

    /// `FF_IOC_TAKE` of anything.
    ///
    /// # Errors
    ///
    /// As the module has it.
    pub fn take_targets(&self, targets: &[abi::Target], how: How) -> Result<Snapshot, Failed> {
        let mut take = how.take();
        take.targets = targets.as_ptr() as u64;
        take.target_count = u32::try_from(targets.len()).expect("few");
        self.call(take)
    }

    /// `FF_IOC_TAKE` of a filesystem alone, by its mount point.
    ///
    /// # Errors
    ///
    /// As the module has it.
    ///
    /// # Panics
    ///
    /// When nothing is there.
    pub fn take_filesystem(&self, dir: &str) -> Result<Snapshot, Failed> {
        let dir = File::open(dir).expect("it can be opened");
        // SAFETY: made of integers alone.
        let mut filesystem: abi::Fs = unsafe { std::mem::zeroed() };
        filesystem.fd = dir.as_raw_fd();
        let mut take = How::default().take();
        take.filesystems = &raw mut filesystem as u64;
        take.fs_count = 1;
        self.call(take)
    }

    /// What `take` points to outlives the call.
    fn call(&self, mut take: abi::Take) -> Result<Snapshot, Failed> {
        // SAFETY: the request reads and writes one `struct ff_take`, and what that points to; both outlive it.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), abi::IOC_TAKE, &raw mut take) };
        if result < 0 {
            let error = io::Error::last_os_error();
            assert_eq!(take.fd, -1, "a failed take hands out no descriptor");
            return Err(Failed {
                error,
                reason: take.failure.reason,
                target: take.failure.target,
                detail: take.failure.detail,
            });
        }
        // SAFETY: the module installed it for us.
        let file = unsafe { File::from_raw_fd(take.fd) };
        Ok(Snapshot { file, take })
    }
}

/// A snapshot.
pub struct Snapshot {
    /// The snapshot fd.
    pub file: File,
    /// What the module reported.
    pub take: abi::Take,
}
