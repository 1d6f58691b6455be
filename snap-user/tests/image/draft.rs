//! Images in the making.

use object::elf::NT_PRSTATUS;
use snap_common::abi;

use crate::{PAGE, START};

/// A record of nothing but zeros.
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for the records of `abi`, which are made of integers alone.
    unsafe { std::mem::zeroed() }
}

fn bytes_of<T: Copy>(record: &T) -> &[u8] {
    // SAFETY: as many bytes as the record has, and the records of `abi` have no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>()) }
}

/// An image in the making: one process.
pub struct Draft {
    pub header: abi::ImageHeader,
    pub process: abi::ImageProcess,
    /// Further ones, without threads.
    pub others: Vec<abi::ImageProcess>,
    /// Id and state; those of the kernel have no registers.
    pub threads: Vec<(i32, u32)>,
    pub vmas: Vec<abi::ImageVma>,
    pub runs: Vec<abi::ImageRun>,
    pub blobs: Vec<u8>,
    pub pages: u64,
}

impl Draft {
    pub fn new() -> Self {
        let mut header: abi::ImageHeader = zeroed();
        header.magic = abi::IMAGE_MAGIC;
        header.version = abi::IMAGE_VERSION;
        header.page_size = 4096;
        header.snapshot_id = 7;
        let mut process: abi::ImageProcess = zeroed();
        process.pid = 42;
        process.thread_count = 1;
        process.comm[..4].copy_from_slice(b"test");
        Self {
            header,
            process,
            others: Vec::new(),
            threads: vec![(42, abi::THREAD_PARKED)],
            vmas: Vec::new(),
            runs: Vec::new(),
            blobs: Vec::new(),
            pages: 0,
        }
    }

    pub fn blob(&mut self, bytes: &[u8]) -> abi::Blob {
        let offset = self.blobs.len();
        self.blobs.extend_from_slice(bytes);
        self.blobs.resize(self.blobs.len().next_multiple_of(8), 0);
        abi::Blob {
            offset: u32::try_from(offset).unwrap(),
            length: u32::try_from(bytes.len()).unwrap(),
        }
    }

    /// A mapping of `pages` pages at page `at` of the address space, with runs of (first page, pages, flags).
    pub fn vma(mut self, at: u64, pages: u64, flags: u32, path: &str, runs: &[(u64, u32, u32)]) -> Self {
        let mut vma: abi::ImageVma = zeroed();
        vma.start = START + at * PAGE;
        vma.end = vma.start + pages * PAGE;
        vma.flags = flags;
        vma.inode = u64::from(path.starts_with('/'));
        vma.path = self.blob(path.as_bytes());
        vma.first_run = u32::try_from(self.runs.len()).unwrap();
        vma.run_count = u32::try_from(runs.len()).unwrap();
        for (first, pages, flags) in runs {
            self.runs.push(abi::ImageRun {
                vaddr: vma.start + first * PAGE,
                page: self.pages,
                pages: *pages,
                flags: *flags,
            });
            if flags & abi::RUN_UNREADABLE == 0 {
                self.pages += u64::from(*pages);
            }
        }
        self.vmas.push(vma);
        self.process.vma_count += 1;
        self
    }

    pub fn build(mut self) -> Vec<u8> {
        let registers = u32::try_from(27 * 8).unwrap();
        let mut set = [NT_PRSTATUS.to_ne_bytes(), registers.to_ne_bytes()].concat();
        set.extend((0..27_u64).flat_map(u64::to_ne_bytes));
        let regs = self.blob(&set);
        let threads = self.threads.iter().map(|(pid, state)| {
            let mut thread: abi::ImageThread = zeroed();
            (thread.pid, thread.state) = (*pid, *state);
            if *state != abi::THREAD_KERNEL {
                thread.regs = regs;
            }
            thread
        });
        let threads: Vec<_> = threads.collect();

        let mut tables = Vec::new();
        let mut table = |records: Vec<&[u8]>, stride: usize| {
            let offset = size_of::<abi::ImageHeader>() + tables.len();
            let count =
                u32::try_from(records.iter().map(|record| record.len()).sum::<usize>() / stride).unwrap();
            tables.extend(records.concat());
            abi::Table {
                offset: offset as u64,
                count,
                stride: u32::try_from(stride).unwrap(),
            }
        };
        let mut header = self.header;
        let processes = std::iter::once(&self.process).chain(&self.others);
        header.processes = table(processes.map(bytes_of).collect(), size_of::<abi::ImageProcess>());
        header.threads = table(
            threads.iter().map(bytes_of).collect(),
            size_of::<abi::ImageThread>(),
        );
        header.vmas = table(
            self.vmas.iter().map(bytes_of).collect(),
            size_of::<abi::ImageVma>(),
        );
        header.runs = table(
            self.runs.iter().map(bytes_of).collect(),
            size_of::<abi::ImageRun>(),
        );
        header.fds = table(Vec::new(), size_of::<abi::ImageFd>());
        header.files = table(Vec::new(), size_of::<abi::ImageFile>());
        header.blobs = table(vec![&self.blobs], 1);
        header.data_offset =
            (size_of::<abi::ImageHeader>() as u64 + tables.len() as u64).next_multiple_of(PAGE);
        header.data_pages = self.pages;

        let mut image = bytes_of(&header).to_vec();
        image.extend(tables);
        image.resize(usize::try_from(header.data_offset).unwrap(), 0);
        for page in 0..self.pages {
            image.extend([u8::try_from(page + 1).unwrap(); 4096]);
        }
        image
    }
}
