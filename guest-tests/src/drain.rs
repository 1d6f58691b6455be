//! What a snapshot fd takes besides reads: mappings, looks and releases.

use std::io;
use std::os::fd::AsRawFd as _;

use snap_common::abi;

use crate::device::Snapshot;

/// A read-only mapping of a part of an image.
pub struct Mapped {
    start: *mut libc::c_void,
    bytes: usize,
}

impl Mapped {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as long as `self` lives, and nobody writes to it.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: ours, and nobody looks at it any more.
        assert_eq!(unsafe { libc::munmap(self.start, self.bytes) }, 0);
    }
}

impl Snapshot {
    /// Maps a part of the image.
    ///
    /// # Errors
    ///
    /// As the kernel has it.
    pub fn map(&self, offset: u64, bytes: usize, protection: i32, flags: i32) -> io::Result<Mapped> {
        let offset = i64::try_from(offset).expect("small");
        let file = self.file.as_raw_fd();
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapped { start, bytes })
    }

    /// `FF_IOC_RELEASE`: the error, and what was done all the same.
    ///
    /// # Errors
    ///
    /// As the kernel has it.
    pub fn release(&self, page: u64, pages: u64) -> Result<abi::Release, (io::Error, abi::Release)> {
        let mut release = abi::Release {
            page,
            pages,
            ..abi::Release::default()
        };
        // SAFETY: the request reads and writes one `struct ff_release`.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), abi::IOC_RELEASE, &raw mut release) };
        if result == 0 {
            Ok(release)
        } else {
            Err((io::Error::last_os_error(), release))
        }
    }

    /// `FF_IOC_LOOK`.
    ///
    /// # Errors
    ///
    /// As the kernel has it.
    ///
    /// # Panics
    ///
    /// When there are too many stretches for a number of 32 bits.
    pub fn look(&self, stretches: &mut [abi::Stretch]) -> io::Result<abi::Look> {
        let mut look = abi::Look {
            stretches: stretches.as_mut_ptr() as u64,
            count: u32::try_from(stretches.len()).expect("few"),
            ..abi::Look::default()
        };
        // SAFETY: the request reads and writes one `struct ff_look` and the stretches, which outlive the call.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), abi::IOC_LOOK, &raw mut look) };
        if result == 0 {
            Ok(look)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
