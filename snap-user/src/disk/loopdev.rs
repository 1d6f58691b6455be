//! A throw-away block device: a sparse file without a name, on a loop device that goes away with its last user.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LOOP_CONFIGURE, LOOP_CTL_GET_FREE, loop_config, loop_info64,
};
use rustix::fs::{CWD, Mode, OFlags, openat};

/// A loop device that is there as long as somebody has it open.
#[derive(Debug)]
pub struct Throwaway {
    /// Its node.
    pub path: PathBuf,
    /// Keeps it until its user has opened it.
    _device: File,
}

/// Makes one of that size, backed by memory as far as it is written to.
///
/// # Minimum kernel version
///
/// 5.8: `LOOP_CONFIGURE` (drivers/block/loop.c).
///
/// # Errors
///
/// When there is no free loop device or no room in `/run`.
pub fn throwaway(bytes: u64) -> io::Result<Throwaway> {
    let file = File::from(openat(
        CWD,
        "/run",
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?);
    file.set_len(bytes)?;
    let control = control()?;
    loop {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE.into()) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = Path::new("/dev").join(format!("loop{number}"));
        let device = File::options().read(true).write(true).open(&path)?;
        match configure(&device, file.as_raw_fd()) {
            Ok(()) => {
                return Ok(Throwaway {
                    path,
                    _device: device,
                });
            }
            // Somebody else took this one between the two calls.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
}

fn control() -> io::Result<File> {
    let open = || File::options().read(true).write(true).open("/dev/loop-control");
    open().or_else(|_| {
        // The outcome shows in the second try.
        let _ = Command::new("modprobe").arg("loop").status();
        open()
    })
}

fn configure(device: &File, file: RawFd) -> io::Result<()> {
    // SAFETY: the struct is made of integers and arrays of them, for which zeros are values.
    let mut config: loop_config = unsafe { std::mem::zeroed() };
    config.fd = u32::try_from(file).map_err(|_| io::ErrorKind::InvalidInput)?;
    config.info = loop_info64 {
        lo_flags: LO_FLAGS_AUTOCLEAR as u32,
        ..config.info
    };
    // SAFETY: LOOP_CONFIGURE reads one `loop_config`, which lives until the call returns.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE.into(), &raw const config) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
