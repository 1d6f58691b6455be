//! Images in the making.

use object::elf::NT_PRSTATUS;
use snap_common::abi;

use crate::blobs::Blobs;
use crate::made_up::{Head, zeroed};
use crate::{PAGE, START};

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
    pub blobs: Blobs,
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
            blobs: Blobs::default(),
            pages: 0,
        }
    }

    /// A mapping of `pages` pages at page `at` of the address space, with runs of (first page, pages, flags).
    pub fn vma(mut self, at: u64, pages: u64, flags: u32, path: &str, runs: &[(u64, u32, u32)]) -> Self {
        let mut vma: abi::ImageVma = zeroed();
        vma.start = START + at * PAGE;
        vma.end = vma.start + pages * PAGE;
        vma.flags = flags;
        vma.inode = u64::from(path.starts_with('/'));
        vma.path = self.blobs.push(path.as_bytes());
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
        let regs = self.blobs.push(&set);
        let threads = self.threads.iter().map(|(pid, state)| {
            let mut thread: abi::ImageThread = zeroed();
            (thread.pid, thread.state) = (*pid, *state);
            if *state != abi::THREAD_KERNEL {
                thread.regs = regs;
            }
            thread
        });
        let threads: Vec<_> = threads.collect();

        let mut head = Head::new(self.pages);
        head.header = self.header;
        head.header.data_pages = self.pages;
        let processes = [&[self.process], self.others.as_slice()].concat();
        head.header.processes = head.table(&processes);
        head.header.threads = head.table(&threads);
        head.header.vmas = head.table(&self.vmas);
        head.header.runs = head.table(&self.runs);
        head.header.fds = head.table::<abi::ImageFd>(&[]);
        head.header.files = head.table::<abi::ImageFile>(&[]);
        head.header.blobs = head.table(&self.blobs.0);
        let mut image = head.bytes();
        for page in 0..self.pages {
            image.extend([u8::try_from(page + 1).unwrap(); 4096]);
        }
        image
    }
}
