//! The memory of a process, by address: as it is now, or as it was at an instant.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::image::Image;

/// Something that knows the memory of processes.
pub trait Memory {
    /// `count` words of the process `pid`, from `address` on.
    fn words(&self, pid: i32, address: u64, count: usize) -> Vec<u64>;

    /// One word.
    fn word(&self, pid: i32, address: u64) -> u64 {
        self.words(pid, address, 1)[0]
    }
}

/// The memory as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Live;

impl Memory for Live {
    fn words(&self, pid: i32, address: u64, count: usize) -> Vec<u64> {
        let memory = File::open(format!("/proc/{pid}/mem")).expect("the process lives");
        let mut bytes = vec![0; count * 8];
        memory.read_exact_at(&mut bytes, address).expect("it is mapped");
        to_words(&bytes)
    }
}

impl Memory for Image<'_> {
    fn words(&self, pid: i32, address: u64, count: usize) -> Vec<u64> {
        let (first, end) = (address & !4095, address + count as u64 * 8);
        let pages = usize::try_from((end - first).div_ceil(4096)).expect("not that many");
        let all = self.pages(pid, first, pages).into_iter();
        let words = all.flat_map(|page| page.unwrap_or_else(|| vec![0; 512]));
        let skipped = usize::try_from((address - first) / 8).expect("in a page");
        words.skip(skipped).take(count).collect()
    }
}

/// The cores of an archive that `freezeframe take` made; removed when it goes out of scope.
#[derive(Debug)]
pub struct Cores {
    folder: String,
}

impl Cores {
    /// Unpacks an archive beside itself, and removes it.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn unpack(archive: &str) -> Self {
        let folder = format!("{archive}.d");
        crate::sh(&format!(
            "mkdir {folder}; tar -xf {archive} -C {folder}; rm {archive}"
        ));
        Self { folder }
    }

    /// Those that lie in a folder already.
    #[must_use]
    pub fn at(folder: String) -> Self {
        Self { folder }
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        // What stays is in a tmpfs.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Memory for Cores {
    fn words(&self, pid: i32, address: u64, count: usize) -> Vec<u64> {
        Core::open(Path::new(&format!("{}/core.{pid}", self.folder))).words(address, count)
    }
}

/// An ELF core file.
struct Core {
    file: File,
    /// Address, offset in the file, bytes there, and bytes in memory.
    segments: Vec<[u64; 4]>,
}

impl Core {
    fn open(path: &Path) -> Self {
        let mut file = File::open(path).expect("the process is in the archive");
        let mut header = [0; 64];
        file.read_exact(&mut header).expect("it has a header");
        assert_eq!(header[..5], *b"\x7fELF\x02", "it is a 64-bit ELF file");
        let short = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let table = u64::from_le_bytes(header[32..40].try_into().expect("8 bytes"));
        let (size, count) = (short(54), short(56));
        let segments = (0..count).filter_map(|index| {
            let mut entry = [0; 56];
            file.read_exact_at(&mut entry, table + index * size)
                .expect("it is readable");
            let words = to_words(&entry);
            // Type and flags share the first word; 1 is PT_LOAD.
            (words[0] & 0xffff_ffff == 1).then(|| [words[2], words[1], words[4], words[5]])
        });
        let segments = segments.collect();
        Self { file, segments }
    }

    fn words(&self, address: u64, count: usize) -> Vec<u64> {
        let mut bytes = vec![0; count * 8];
        let end = address + bytes.len() as u64;
        let mut covered = 0;
        for [start, offset, in_file, in_memory] in &self.segments {
            covered += end.min(start + in_memory).saturating_sub(address.max(*start));
            let (from, to) = (address.max(*start), end.min(start + in_file));
            if from < to {
                let range = usize::try_from(from - address).expect("short")
                    ..usize::try_from(to - address).expect("short");
                self.file
                    .read_exact_at(&mut bytes[range], offset + (from - start))
                    .expect("it is readable");
            }
        }
        assert_eq!(covered, end - address, "{address:#x} is in the core");
        to_words(&bytes)
    }
}

fn to_words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect()
}

/// What `/proc/PID/pagemap` says of a page (Documentation/admin-guide/mm/pagemap.rst): bits 0 to 54 are its frame.
///
/// # Panics
///
/// When there is no such process.
#[must_use]
pub fn pagemap(pid: i32, address: u64) -> u64 {
    let file = File::open(format!("/proc/{pid}/pagemap")).expect("the process lives");
    let mut entry = [0; 8];
    file.read_exact_at(&mut entry, address / 4096 * 8)
        .expect("it is an address");
    u64::from_ne_bytes(entry)
}

/// Pins memory of this process, as for a device that writes to it, for as long as the descriptor lives: the buffers of an `io_uring`.
///
/// # Panics
///
/// When the kernel does not have it, or there is no such memory.
#[must_use]
pub fn pin(start: usize, bytes: usize) -> OwnedFd {
    const REGISTER_BUFFERS: u32 = 0;
    let parameters = [0_u32; 30]; // struct io_uring_params
    // SAFETY: `parameters` has the size of the struct, and outlives the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_ptr()) };
    assert!(ring >= 0, "io_uring_setup: {}", std::io::Error::last_os_error());
    // SAFETY: the ring was made above, and nobody else has it.
    let ring = unsafe { OwnedFd::from_raw_fd(i32::try_from(ring).expect("a descriptor")) };
    let buffer = libc::iovec {
        iov_base: start as *mut _,
        iov_len: bytes,
    };
    // SAFETY: `buffer` outlives the call; memory that is not mapped is an error.
    let pinned = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_BUFFERS,
            &raw const buffer,
            1,
        )
    };
    assert_eq!(
        pinned,
        0,
        "io_uring_register: {}",
        std::io::Error::last_os_error()
    );
    ring
}
