//! How much memory an archive takes while it is written, out of images made by hand: no more for a process that has very much.

#[path = "../examples/made_up/blobs.rs"]
mod blobs;
#[path = "../examples/made_up/mod.rs"]
mod made_up;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use blobs::Blobs;
use bytes::Bytes;
use freezeframe::archive::members::Sink;
use freezeframe::archive::order::Order;
use freezeframe::archive::plan::ParentImage;
use freezeframe::archive::write::{Archive, Facts};
use freezeframe::device::ImageSource;
use freezeframe::image::Image;
use made_up::{Head, bytes_of, zeroed};
use snap_common::abi;

const PAGE: u64 = 4096;
const START: u64 = 0x7000_0000;
/// Of what is promised for all of the controller, 64 MiB, the rest is for buffers and the program.
const MOST: usize = 16 << 20;
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// For whoever measures: what others take would count.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Counting;

// SAFETY: the system's own, and counting does no harm.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // What is large does not move: its pages do.
        LIVE.fetch_add(bytes, Relaxed);
        PEAK.fetch_max(LIVE.fetch_sub(layout.size(), Relaxed) - layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The tables of an image, mapped as the module's descriptor is, and how many pages it has, which are zeros.
#[derive(Debug)]
struct Made(Bytes, u64);

impl ImageSource for Made {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn pages(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        Ok(if at < self.0.len() {
            self.0.slice(at..at + bytes)
        } else {
            Bytes::from_static(&ZEROS[..bytes])
        })
    }
}

/// Takes everything, and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn put(&mut self, _: Bytes) -> io::Result<()> {
        Ok(())
    }
}

/// An image of one process, whose lists are filled by hand.
struct Draft {
    threads: Vec<abi::ImageThread>,
    runs: Vec<abi::ImageRun>,
    fds: Vec<abi::ImageFd>,
    files: Vec<abi::ImageFile>,
    blobs: Blobs,
}

impl Draft {
    fn new() -> Self {
        Self {
            threads: Vec::new(),
            runs: Vec::new(),
            fds: Vec::new(),
            files: Vec::new(),
            blobs: Blobs::default(),
        }
    }

    /// An open file with so many descriptors.
    fn file(&mut self, descriptors: u32, mut file: abi::ImageFile) {
        let number = u32::try_from(self.files.len()).unwrap();
        file.id = u64::from(number) + 1;
        self.files.push(file);
        for _ in 0..descriptors {
            self.fds.push(abi::ImageFd {
                fd: i32::try_from(self.fds.len()).unwrap(),
                flags: 0,
                file: number,
                reserved: 0,
            });
        }
    }

    fn build(self) -> Made {
        let count = |length: usize| u32::try_from(length).unwrap();
        let readable = self.runs.iter().map(|run| run.page + u64::from(run.pages));
        let pages = readable.max().unwrap_or(0);
        let mut head = Head::new(pages);
        head.header.instance = 7;
        let mut process: abi::ImageProcess = zeroed();
        process.pid = 42;
        process.thread_count = count(self.threads.len());
        process.fd_count = count(self.fds.len());
        process.vma_count = 1;
        process.parent_id = 6;
        process.track = abi::TRACK_ON;
        let mut vma: abi::ImageVma = zeroed();
        vma.start = START;
        vma.end = self
            .runs
            .iter()
            .map(|run| run.vaddr + PAGE)
            .max()
            .unwrap_or(START)
            + PAGE;
        vma.flags = abi::VMA_READ | abi::VMA_WRITE;
        vma.run_count = count(self.runs.len());
        head.header.processes = head.table(&[process]);
        head.header.threads = head.table(&self.threads);
        head.header.vmas = head.table(&[vma]);
        head.header.runs = head.table(&self.runs);
        head.header.fds = head.table(&self.fds);
        head.header.files = head.table(&self.files);
        head.header.blobs = head.table(&self.blobs.0);
        Made(head.bytes().into(), pages)
    }
}

/// How much memory it took at once to write the archive of an image, beyond what was taken before.
fn peak(draft: fn() -> Draft) -> usize {
    let _alone = alone();
    let source = draft().build();
    let parent = ParentImage {
        image_id: "parent".into(),
        snapshot_id: 6,
        module_instance: format!("{:016x}", 7),
        pids: vec![42],
        name: "parent.tar".into(),
    };
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let image = Image::read(&source, source.0.len() as u64 + source.1 * PAGE).unwrap();
    let mut archive = Archive::new(&image, &source, Some(&parent), Order::Likely, Facts::here()).unwrap();
    archive.write(Nowhere).unwrap();
    PEAK.load(Relaxed) - before
}

#[test]
fn a_state_that_could_not_be_read_is_not_written() {
    let _alone = alone();
    let mut draft = Draft::new();
    let text = draft.blobs.push(&vec![b'x'; 1 << 20]);
    for _ in 0..257 {
        let mut file: abi::ImageFile = zeroed();
        (file.kind, file.text) = (abi::FILE_OTHER, text);
        draft.file(1, file);
    }
    let source = draft.build();
    let image = Image::read(&source, source.0.len() as u64).unwrap();
    let refused = Archive::new(&image, &source, None, Order::Address, Facts::here()).unwrap_err();
    assert!(
        refused.to_string().starts_with("the state of process 42"),
        "{refused}"
    );
}

#[test]
fn sockets_may_be_many() {
    let peak = peak(|| {
        let mut draft = Draft::new();
        for _ in 0..50_000 {
            let mut socket: abi::ImageSocket = zeroed();
            (socket.family, socket.kind, socket.state) = (2, 1, 1);
            (socket.local_bytes, socket.peer_bytes) = (16, 16);
            (socket.local[0], socket.peer[0]) = (2, 2);
            let mut file: abi::ImageFile = zeroed();
            file.kind = abi::FILE_SOCKET;
            file.socket = draft.blobs.push(bytes_of(&[socket]));
            file.path = draft.blobs.push(b"socket:[1234567]");
            draft.file(1, file);
        }
        draft
    });
    assert!(peak < MOST, "{peak} bytes");
}

#[test]
fn pipes_may_be_full() {
    let peak = peak(|| {
        let mut draft = Draft::new();
        for _ in 0..8 {
            let content = draft.blobs.push(&vec![7; 1 << 20]);
            // Its two ends.
            for _ in 0..2 {
                let mut file: abi::ImageFile = zeroed();
                (file.kind, file.capacity, file.pipe) = (abi::FILE_PIPE, 1 << 20, content);
                draft.file(1, file);
            }
        }
        draft
    });
    assert!(peak < MOST, "{peak} bytes");
}

#[test]
fn threads_may_be_many() {
    let peak = peak(|| {
        let mut draft = Draft::new();
        for pid in 42..10_042 {
            let set = [&1_u32.to_ne_bytes(), &216_u32.to_ne_bytes(), &[1; 216][..]].concat();
            let more = [&0x202_u32.to_ne_bytes(), &2696_u32.to_ne_bytes(), &[0; 2696][..]].concat();
            let mut thread: abi::ImageThread = zeroed();
            (thread.pid, thread.state) = (pid, abi::THREAD_PARKED);
            thread.regs = draft.blobs.push(&[set, more].concat());
            draft.threads.push(thread);
        }
        draft
    });
    assert!(peak < MOST, "{peak} bytes");
}

/// Every other page has changed since the parent.
fn scattered(pages: u32) -> Draft {
    let mut draft = Draft::new();
    draft.runs = (0..2 * pages)
        .map(|page| abi::ImageRun {
            vaddr: START + u64::from(page) * PAGE,
            page: page.into(),
            pages: 1,
            flags: if page % 2 == 0 { 0 } else { abi::RUN_UNCHANGED },
        })
        .collect();
    draft
}

#[test]
fn changed_pages_may_be_scattered() {
    const STRETCHES: u32 = 50_000;
    // As `docs/image.md` says, which counts those between the changed ones with them.
    let most = STRETCHES as usize * 300;
    let peak = peak(|| scattered(STRETCHES));
    assert!(peak < most, "{peak} bytes");
}
