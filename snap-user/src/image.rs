//! The image that a snapshot fd yields: its tables, checked before anything trusts them.

use std::io;
use std::ops::Deref;

use bytes::Bytes;
use snap_common::abi;

use crate::device::ImageSource;
use crate::octal::escape;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bytes could not be had.
    #[error("cannot read the image at byte {offset}: {source}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The bytes make no sense.
    #[error("the image is damaged: {0}")]
    Damaged(&'static str),
    /// It was made by another release.
    #[error(
        "the image has version {found}, this freezeframe reads {wanted}; use the release that matches the module"
    )]
    Version {
        /// The image's.
        found: u32,
        /// Ours.
        wanted: u32,
    },
}

/// A record of one of the image's tables.
///
/// # Safety
///
/// `#[repr(C)]`, made of integers alone, so that every bit pattern is valid.
pub unsafe trait Record: Copy {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageHeader {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageProcess {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageThread {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageVma {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageRun {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageFd {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageFile {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageCredentials {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageLimit {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageAction {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageSignal {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageTimer {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageLock {}
// SAFETY: mirrors a C struct of integers.
unsafe impl Record for abi::ImageSocket {}
// SAFETY: an integer.
unsafe impl Record for u32 {}
// SAFETY: an integer.
unsafe impl Record for u64 {}

fn record<T: Record>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are at least `size_of::<T>()` bytes, and every bit pattern is a valid `T`.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The records of a table, as they lie in the image where they can: a copy would be as large as a process has many of them.
#[derive(Debug)]
enum Records<T> {
    Mapped(Bytes),
    /// They are longer there than here, or not aligned.
    Copied(Vec<T>),
}

impl<T: Record> Records<T> {
    /// Of records that are `stride` long, which is no less than ours.
    fn new(table: Bytes, stride: usize) -> Self {
        // SAFETY: every bit pattern is a valid `T`.
        let (before, _, behind) = unsafe { table.align_to::<T>() };
        if stride == size_of::<T>() && before.is_empty() && behind.is_empty() {
            return Self::Mapped(table);
        }
        Self::Copied(table.chunks_exact(stride).filter_map(record).collect())
    }
}

impl<T: Record> Deref for Records<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            // SAFETY: every bit pattern is a valid `T`.
            Self::Mapped(table) => unsafe { table.align_to().1 },
            Self::Copied(records) => records,
        }
    }
}

/// The tables of an image.
#[derive(Debug)]
pub struct Image {
    /// The header.
    pub header: abi::ImageHeader,
    /// Processes, in the order in which they were named.
    pub processes: Vec<abi::ImageProcess>,
    threads: Records<abi::ImageThread>,
    vmas: Records<abi::ImageVma>,
    runs: Records<abi::ImageRun>,
    fds: Records<abi::ImageFd>,
    files: Records<abi::ImageFile>,
    blobs: Bytes,
}

impl Image {
    /// Reads and checks the tables of an image of `image_bytes` bytes.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or point outside of the image.
    pub fn read<S: ImageSource + ?Sized>(source: &S, image_bytes: u64) -> Result<Self, ImageError> {
        let header = Self::read_header(source, image_bytes)?;
        let bytes = usize::try_from(header.data_offset).unwrap_or(usize::MAX);
        let tables = source
            .pages(0, bytes)
            .map_err(|source| ImageError::Read { offset: 0, source })?;
        let image = Self {
            processes: records(&tables, header.processes)?.to_vec(),
            threads: records(&tables, header.threads)?,
            vmas: records(&tables, header.vmas)?,
            runs: records(&tables, header.runs)?,
            fds: records(&tables, header.fds)?,
            files: records(&tables, header.files)?,
            blobs: part(&tables, header.blobs)?,
            header,
        };
        image.check()?;
        Ok(image)
    }

    /// The processes alone.
    ///
    /// # Errors
    ///
    /// As [`Image::read`].
    pub fn read_processes<S: ImageSource + ?Sized>(
        source: &S,
        image_bytes: u64,
    ) -> Result<Vec<abi::ImageProcess>, ImageError> {
        let header = Self::read_header(source, image_bytes)?;
        let table = header.processes;
        let bytes = read_bytes(source, table.offset, table_bytes(table, header.data_offset)?)?;
        let first = abi::Table { offset: 0, ..table };
        Ok(records(&bytes.into(), first)?.to_vec())
    }

    /// The instant, in nanoseconds since 1970.
    ///
    /// # Errors
    ///
    /// As [`Image::read`].
    pub fn read_instant<S: ImageSource + ?Sized>(source: &S, image_bytes: u64) -> Result<u64, ImageError> {
        Ok(Self::read_header(source, image_bytes)?.instant_realtime_ns)
    }

    fn read_header<S: ImageSource + ?Sized>(
        source: &S,
        image_bytes: u64,
    ) -> Result<abi::ImageHeader, ImageError> {
        let bytes = read_bytes(source, 0, size_of::<abi::ImageHeader>())?;
        let header: abi::ImageHeader =
            record(&bytes).ok_or(ImageError::Damaged("it is shorter than its header"))?;
        if header.magic != abi::IMAGE_MAGIC {
            return Err(ImageError::Damaged("it does not begin with the magic number"));
        }
        if header.version != abi::IMAGE_VERSION {
            return Err(ImageError::Version {
                found: header.version,
                wanted: abi::IMAGE_VERSION,
            });
        }
        let end = header
            .data_pages
            .checked_mul(PAGE)
            .and_then(|data| data.checked_add(header.data_offset))
            .ok_or(ImageError::Damaged("its size overflows"))?;
        if end != image_bytes || header.page_size != PAGE_SIZE {
            return Err(ImageError::Damaged("its size is not what its header says"));
        }
        Ok(header)
    }

    fn check(&self) -> Result<(), ImageError> {
        for process in &self.processes {
            if slice(&self.threads, process.first_thread, process.thread_count).is_none()
                || slice(&self.vmas, process.first_vma, process.vma_count).is_none()
                || slice(&self.fds, process.first_fd, process.fd_count).is_none()
            {
                return Err(ImageError::Damaged("a process points outside of a table"));
            }
        }
        if self.fds.iter().any(|fd| self.files.len() <= fd.file as usize) {
            return Err(ImageError::Damaged("a descriptor points outside of a table"));
        }
        for vma in &*self.vmas {
            if vma.start >= vma.end || slice(&self.runs, vma.first_run, vma.run_count).is_none() {
                return Err(ImageError::Damaged("a mapping points outside of a table"));
            }
            let mut at = vma.start;
            for run in self.runs_of(vma) {
                let end = run.vaddr.checked_add(u64::from(run.pages) * PAGE);
                if run.vaddr < at || run.pages == 0 || end.is_none_or(|end| end > vma.end) {
                    return Err(ImageError::Damaged("a run lies outside of its mapping"));
                }
                at = run.vaddr + u64::from(run.pages) * PAGE;
            }
        }
        for run in &*self.runs {
            let pages = if run.flags & abi::RUN_UNREADABLE == 0 {
                u64::from(run.pages)
            } else {
                0
            };
            if run
                .page
                .checked_add(pages)
                .is_none_or(|last| last > self.header.data_pages)
            {
                return Err(ImageError::Damaged("a run points behind the last page"));
            }
        }
        Ok(())
    }

    /// The threads of a process.
    #[must_use]
    pub fn threads_of(&self, process: &abi::ImageProcess) -> &[abi::ImageThread] {
        slice(&self.threads, process.first_thread, process.thread_count).unwrap_or_default()
    }

    /// The mappings of a process, by address.
    #[must_use]
    pub fn vmas_of(&self, process: &abi::ImageProcess) -> &[abi::ImageVma] {
        slice(&self.vmas, process.first_vma, process.vma_count).unwrap_or_default()
    }

    /// The runs of a mapping, by address.
    #[must_use]
    pub fn runs_of(&self, vma: &abi::ImageVma) -> &[abi::ImageRun] {
        slice(&self.runs, vma.first_run, vma.run_count).unwrap_or_default()
    }

    /// The descriptors of a process, by number.
    #[must_use]
    pub fn fds_of(&self, process: &abi::ImageProcess) -> &[abi::ImageFd] {
        slice(&self.fds, process.first_fd, process.fd_count).unwrap_or_default()
    }

    /// The open file that a descriptor refers to.
    #[must_use]
    pub fn file_of(&self, fd: &abi::ImageFd) -> Option<&abi::ImageFile> {
        self.files.get(fd.file as usize)
    }

    /// The records that a record points to; what is behind the last whole one is left out.
    #[must_use]
    pub fn records<T: Record>(&self, blob: abi::Blob) -> Vec<T> {
        self.blob(blob)
            .chunks_exact(size_of::<T>())
            .filter_map(record)
            .collect()
    }

    /// The record that a record points to, and the bytes behind it.
    #[must_use]
    pub fn headed<T: Record>(&self, blob: abi::Blob) -> Option<(T, &[u8])> {
        let bytes = self.blob(blob);
        Some((record(bytes)?, bytes.get(size_of::<T>()..)?))
    }

    /// The bytes that a record points to.
    #[must_use]
    pub fn blob(&self, blob: abi::Blob) -> &[u8] {
        slice(&self.blobs, blob.offset, blob.length).unwrap_or_default()
    }

    /// A path or name that a record points to; what of it is no UTF-8 is octal.
    #[must_use]
    pub fn text(&self, blob: abi::Blob) -> String {
        escape(self.blob(blob))
    }

    /// Do several runs have a page? Most images share nothing.
    #[must_use]
    pub fn shares_pages(&self) -> bool {
        let readable = self
            .runs
            .iter()
            .filter(|run| run.flags & abi::RUN_UNREADABLE == 0);
        let named: u64 = readable.map(|run| u64::from(run.pages)).sum();
        let spaces = self.vmas.iter().map(|vma| u64::from(vma.run_count)).sum::<u64>();
        let claimed = self.processes.iter().flat_map(|process| self.vmas_of(process));
        let claimed: u64 = claimed.map(|vma| u64::from(vma.run_count)).sum();
        named > self.header.data_pages || claimed != spaces
    }

    /// Where a data page lies in the image.
    #[must_use]
    pub fn page_offset(&self, page: u64) -> u64 {
        self.header.data_offset + page * PAGE
    }
}

/// Bytes of a page.
pub const PAGE: u64 = 4096;
const PAGE_SIZE: u32 = 4096;

/// The name of a thread or process.
#[must_use]
pub fn comm(bytes: &[u8; 16]) -> String {
    escape(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn slice<T>(table: &[T], first: u32, count: u32) -> Option<&[T]> {
    table.get(first as usize..)?.get(..count as usize)
}

fn read_bytes<S: ImageSource + ?Sized>(
    source: &S,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; length];
    source
        .read_exact_at(&mut bytes, offset)
        .map_err(|source| ImageError::Read { offset, source })?;
    Ok(bytes)
}

/// How long a table is, which lies before `end`.
fn table_bytes(table: abi::Table, end: u64) -> Result<usize, ImageError> {
    let length = u64::from(table.count) * u64::from(table.stride);
    let behind = table.offset.checked_add(length);
    if behind.is_none_or(|behind| behind > end) {
        return Err(ImageError::Damaged("a table lies behind the tables' end"));
    }
    Ok(usize::try_from(length).unwrap_or(usize::MAX))
}

/// The bytes of a table.
fn part(tables: &Bytes, table: abi::Table) -> Result<Bytes, ImageError> {
    let length = table_bytes(table, tables.len() as u64)?;
    let offset = usize::try_from(table.offset).unwrap_or(usize::MAX);
    Ok(tables.slice(offset..offset + length))
}

fn records<T: Record>(tables: &Bytes, table: abi::Table) -> Result<Records<T>, ImageError> {
    let stride = table.stride as usize;
    if stride < size_of::<T>() {
        return Err(ImageError::Damaged("a table's records are too short"));
    }
    Ok(Records::new(part(tables, table)?, stride))
}
