//! Reads memory out of an image by process and address.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use snap_common::abi;

const PAGE: u64 = 4096;

/// The tables of an image, kept as bytes.
pub struct Image<'a> {
    file: &'a File,
    /// The header.
    pub header: abi::ImageHeader,
}

impl<'a> Image<'a> {
    /// Reads the header.
    ///
    /// # Panics
    ///
    /// When it is not an image.
    #[must_use]
    pub fn open(file: &'a File) -> Self {
        let header: abi::ImageHeader = record(file, 0);
        assert_eq!(header.magic, abi::IMAGE_MAGIC);
        Self { file, header }
    }

    fn row<T: Copy>(&self, table: abi::Table, index: u32) -> T {
        assert!(index < table.count);
        record(
            self.file,
            table.offset + u64::from(index) * u64::from(table.stride),
        )
    }

    /// The process with this id.
    ///
    /// # Panics
    ///
    /// When it is not in the image.
    #[must_use]
    pub fn process(&self, pid: i32) -> abi::ImageProcess {
        let mut all = (0..self.header.processes.count).map(|index| self.row(self.header.processes, index));
        all.find(|process: &abi::ImageProcess| process.pid == pid)
            .expect("the process is in the image")
    }

    /// Its threads.
    #[must_use]
    pub fn threads(&self, process: &abi::ImageProcess) -> Vec<abi::ImageThread> {
        (0..process.thread_count)
            .map(|index| self.row(self.header.threads, process.first_thread + index))
            .collect()
    }

    /// The register sets of a thread, by their type.
    ///
    /// # Panics
    ///
    /// When they are not in the image.
    #[must_use]
    pub fn registers(&self, thread: &abi::ImageThread) -> HashMap<u32, Vec<u8>> {
        let bytes = self.blob(thread.regs);
        let mut rest = &bytes[..];
        let mut sets = HashMap::new();
        while !rest.is_empty() {
            let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().expect("4 bytes"));
            let length = usize::try_from(word(4)).expect("short");
            sets.insert(word(0), rest[8..8 + length].to_vec());
            rest = &rest[8 + length.next_multiple_of(8)..];
        }
        sets
    }

    /// Its mappings.
    #[must_use]
    pub fn vmas(&self, process: &abi::ImageProcess) -> Vec<abi::ImageVma> {
        (0..process.vma_count)
            .map(|index| self.row(self.header.vmas, process.first_vma + index))
            .collect()
    }

    /// The file behind a mapping, or its name.
    ///
    /// # Panics
    ///
    /// When it is not in the image.
    #[must_use]
    pub fn path(&self, vma: &abi::ImageVma) -> String {
        String::from_utf8_lossy(&self.blob(vma.path)).into_owned()
    }

    /// The descriptors of a process.
    #[must_use]
    pub fn fds(&self, process: &abi::ImageProcess) -> Vec<abi::ImageFd> {
        (0..process.fd_count)
            .map(|index| self.row(self.header.fds, process.first_fd + index))
            .collect()
    }

    /// The open file that a descriptor refers to.
    #[must_use]
    pub fn open_file(&self, fd: &abi::ImageFd) -> abi::ImageFile {
        self.row(self.header.files, fd.file)
    }

    /// The records in a blob.
    ///
    /// # Panics
    ///
    /// When it is not made of whole ones.
    #[must_use]
    pub fn records<T: Copy>(&self, blob: abi::Blob) -> Vec<T> {
        let bytes = self.blob(blob);
        assert_eq!(bytes.len() % size_of::<T>(), 0);
        bytes
            .chunks_exact(size_of::<T>())
            // SAFETY: as many bytes as a `T`, and every record is made of integers alone.
            .map(|bytes| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
            .collect()
    }

    /// The text in a blob.
    #[must_use]
    pub fn text(&self, blob: abi::Blob) -> String {
        String::from_utf8_lossy(&self.blob(blob)).into_owned()
    }

    /// The bytes that a record points to.
    ///
    /// # Panics
    ///
    /// When they are not in the image.
    #[must_use]
    pub fn blob(&self, blob: abi::Blob) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(blob.length).expect("short")];
        let at = self.header.blobs.offset + u64::from(blob.offset);
        self.file.read_exact_at(&mut bytes, at).expect("it is readable");
        bytes
    }

    /// What of a mapping is in the image.
    #[must_use]
    pub fn runs(&self, vma: &abi::ImageVma) -> Vec<abi::ImageRun> {
        (0..vma.run_count)
            .map(|index| self.row(self.header.runs, vma.first_run + index))
            .collect()
    }

    /// The pages of `[start, start + pages)`: `None` where the image has nothing (zeros, or a file's content).
    ///
    /// # Panics
    ///
    /// When the range is not mapped, or unreadable.
    #[must_use]
    pub fn pages(&self, pid: i32, start: u64, pages: usize) -> Vec<Option<Vec<u64>>> {
        let process = self.process(pid);
        let mut found = vec![None; pages];
        let mut covered = 0;
        let end = start + pages as u64 * PAGE;
        for vma in self.vmas(&process) {
            covered += vma.end.min(end).saturating_sub(vma.start.max(start));
            if vma.start >= end || vma.end <= start {
                continue;
            }
            for run in self.runs(&vma) {
                for number in 0..u64::from(run.pages) {
                    let address = run.vaddr + number * PAGE;
                    if address < start || address >= end {
                        continue;
                    }
                    assert_eq!(run.flags & abi::RUN_UNREADABLE, 0, "{address:#x} is unreadable");
                    let slot = usize::try_from((address - start) / PAGE).expect("in range");
                    assert!(found[slot].is_none(), "{address:#x} is in the image twice");
                    found[slot] = Some(self.page(run.page + number));
                }
            }
        }
        assert_eq!(covered, pages as u64 * PAGE, "{start:#x} is mapped in the image");
        found
    }

    /// A data page.
    ///
    /// # Panics
    ///
    /// When it is not there.
    #[must_use]
    pub fn page(&self, index: u64) -> Vec<u64> {
        assert!(index < self.header.data_pages);
        let mut bytes = [0; 4096];
        self.file
            .read_exact_at(&mut bytes, self.header.data_offset + index * PAGE)
            .expect("the page is readable");
        bytes
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
            .collect()
    }

    /// One word of memory; 0 where the image has nothing.
    #[must_use]
    pub fn word(&self, pid: i32, address: u64) -> u64 {
        let page = self.pages(pid, address & !(PAGE - 1), 1).remove(0);
        page.map_or(0, |words| {
            words[usize::try_from(address % PAGE / 8).expect("in a page")]
        })
    }
}

fn record<T: Copy>(file: &File, offset: u64) -> T {
    let mut bytes = vec![0; size_of::<T>()];
    file.read_exact_at(&mut bytes, offset)
        .expect("the record is readable");
    // SAFETY: as many bytes as a `T`, and every record is made of integers alone.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}
