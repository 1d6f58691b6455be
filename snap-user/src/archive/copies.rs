//! What a core has of memory that nobody ever wrote to, as the kernel's own cores have it: debuggers rely on that.
//!
//! - The first page of each ELF file, which has its build ID: so they know which file it was.
//! - The unwritten pages of private mappings with written ones: some look for no such page in a file (the JVM's own debugger).
//! - The vDSO, in which threads may be.
//!
//! The module does not hold the pages of files, so they are read here, from files that were not written since the instant.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use snap_common::abi;

use super::head::PAGE;
use super::layout::{Extent, Mapped, What};
use super::state::auxv;
use crate::image::Image;

/// So much of mappings with written pages is copied, all processes together; files that several have count once. What is more stays in
/// the files alone: the copies are held in memory until they are written.
const MOST: u64 = 16 << 20;
/// Times of files lag behind the clock by a tick of the kernel at the most, which is 10 ms at the most.
const TICK_NS: i128 = 10_000_000;
const ELF: &[u8] = b"\x7fELF";
/// What `/proc/PID/maps` calls the vDSO.
const VDSO: &str = "[vdso]";

/// Which stretch of which file: device, inode, offset, length.
type Key = (u32, u32, u64, u64, u64);

/// Stretches of memory that were read from files.
#[derive(Debug, Default)]
pub struct Copies {
    stretches: Vec<Bytes>,
    /// Processes map the same files. Those that cannot be read are here as well.
    known: HashMap<Key, Option<Bytes>>,
    /// Of `MOST`.
    used: u64,
}

impl Copies {
    /// What is in a stretch.
    #[must_use]
    pub fn get(&self, index: usize) -> Bytes {
        self.stretches.get(index).cloned().unwrap_or_default()
    }

    /// Replaces what is absent from the mappings of a process by copies.
    pub fn fill(&mut self, image: &Image, process: &abi::ImageProcess, mappings: &mut [Mapped]) {
        for (vma, mapped) in image.vmas_of(process).iter().zip(mappings) {
            let copy = if is_private_file(vma) {
                let file = Mapping { image, process, vma };
                self.file(&file, mapped)
            } else {
                vdso(image, process, vma)
            };
            if let Some(copy) = copy {
                self.replace(mapped, vma.start, &copy);
            }
        }
    }

    /// What is to stand for the unwritten pages at the start of a mapping: all of it, one page, or nothing.
    fn file(&mut self, file: &Mapping<'_>, mapped: &Mapped) -> Option<Bytes> {
        let vma = file.vma;
        let is_absent = |extent: &Extent| extent.what == What::Absent;
        let bytes = vma.end - vma.start;
        if mapped.extents.iter().all(is_absent) || bytes > MOST {
            return self.first_page(file);
        }
        let key = file.key(bytes);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if self.used + bytes > MOST {
            return self.first_page(file);
        }
        let copy = file.read(bytes);
        self.used += copy.as_ref().map_or(0, |copy| copy.len() as u64);
        self.known.insert(key, copy.clone());
        copy
    }

    /// The page with the build ID, if this mapping has it.
    fn first_page(&mut self, file: &Mapping<'_>) -> Option<Bytes> {
        if file.vma.file_offset != 0 {
            return None;
        }
        let read = || file.read(PAGE).filter(|page| page.starts_with(ELF));
        self.known.entry(file.key(PAGE)).or_insert_with(read).clone()
    }

    /// Replaces what is absent from the start of a mapping, as far as the copy goes.
    fn replace(&mut self, mapped: &mut Mapped, start: u64, copy: &Bytes) {
        let extents = std::mem::take(&mut mapped.extents);
        for extent in extents {
            let at = extent.vaddr - start;
            let copied = (copy.len() as u64).saturating_sub(at).min(extent.bytes);
            if extent.what != What::Absent || copied == 0 {
                mapped.extents.push(extent);
                continue;
            }
            let range = [at, at + copied].map(|offset| usize::try_from(offset).unwrap_or(copy.len()));
            mapped.extents.push(Extent {
                bytes: copied,
                what: What::Copied(self.stretches.len()),
                ..extent
            });
            self.stretches.push(copy.slice(range[0]..range[1]));
            if copied < extent.bytes {
                mapped.extents.push(Extent {
                    vaddr: extent.vaddr + copied,
                    bytes: extent.bytes - copied,
                    ..extent
                });
            }
        }
    }
}

/// What a mapping has if it is the vDSO of a process of 64 bits: that is the same in all of those, and never changes. Those of 32 bits have
/// another one, which is not ours to read.
pub(super) fn vdso(image: &Image, process: &abi::ImageProcess, vma: &abi::ImageVma) -> Option<Bytes> {
    static OURS: LazyLock<Option<Bytes>> = LazyLock::new(|| own_vdso().map(Bytes::from));
    let is_vdso = process.flags & abi::PROCESS_32BIT == 0
        && image.text(vma.path) == VDSO
        && auxv(image, process).contains(&(libc::AT_SYSINFO_EHDR, vma.start));
    let ours = OURS.as_ref().filter(|_| is_vdso)?;
    (ours.len() as u64 == vma.end - vma.start).then(|| ours.clone())
}

/// Is it a private mapping of a file, and readable? Those without any permission are there to keep others away.
fn is_private_file(vma: &abi::ImageVma) -> bool {
    let other = abi::VMA_SHARED | abi::VMA_SHMEM | abi::VMA_DEVICE | abi::VMA_SPECIAL | abi::VMA_INTERNAL;
    vma.inode != 0 && vma.flags & other == 0 && vma.flags & abi::VMA_READ != 0
}

/// A mapping of a file.
struct Mapping<'a> {
    image: &'a Image,
    process: &'a abi::ImageProcess,
    vma: &'a abi::ImageVma,
}

impl Mapping<'_> {
    const fn key(&self, bytes: u64) -> Key {
        let vma = self.vma;
        (vma.dev_major, vma.dev_minor, vma.inode, vma.file_offset, bytes)
    }

    /// From the start of the mapping. Whole pages: what is behind the end of the file on its last page is zeros.
    fn read(&self, bytes: u64) -> Option<Bytes> {
        let file = self.open()?;
        let mut content = vec![0; usize::try_from(bytes).ok()?];
        let mut length = 0;
        while length < content.len() {
            match file.read_at(&mut content[length..], self.vma.file_offset + length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        content.truncate(length.next_multiple_of(usize::try_from(PAGE).ok()?));
        (length != 0).then(|| content.into())
    }

    /// The file, if it is the same and was not written since.
    fn open(&self) -> Option<File> {
        let (vma, path) = (
            self.vma,
            Path::new(OsStr::from_bytes(self.image.blob(self.vma.path))),
        );
        let link = format!(
            "/proc/{}/map_files/{:x}-{:x}",
            self.process.pid, vma.start, vma.end
        );
        // Where the file was removed, only the process has it; where the process has ended, only the folder has.
        let is_named = std::fs::read_link(&link).is_ok_and(|target| target == path);
        let opened = |path: &Path, known: bool| {
            // What has that name by now may be a FIFO, at which opening would wait.
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
            let metadata = file.metadata().ok()?;
            let same = known || is_inode(&metadata, vma);
            (metadata.is_file() && same && self.is_old(&metadata)).then_some(file)
        };
        opened(link.as_ref(), is_named).or_else(|| opened(path, false))
    }

    /// Was the file last changed before the instant, as far as its inode tells? By that change alone: the time of writing can be set back.
    fn is_old(&self, metadata: &Metadata) -> bool {
        let second = 1_000_000_000;
        let changed = i128::from(metadata.ctime()) * second + i128::from(metadata.ctime_nsec());
        changed + TICK_NS < i128::from(self.image.header.instant_realtime_ns)
    }
}

fn is_inode(metadata: &Metadata, vma: &abi::ImageVma) -> bool {
    metadata.ino() == vma.inode && metadata.dev() == rustix::fs::makedev(vma.dev_major, vma.dev_minor)
}

/// The vDSO of this process.
fn own_vdso() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let range = maps
        .lines()
        .find(|line| line.ends_with(VDSO))?
        .split(' ')
        .next()?;
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).ok());
    let (start, end) = (start?, end?);
    let mut content = vec![0; usize::try_from(end - start).ok()?];
    let memory = File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut content, start).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::{ELF, own_vdso};

    #[test]
    fn the_vdso_is_an_elf_file() {
        assert!(own_vdso().is_some_and(|content| content.starts_with(ELF)));
    }
}
