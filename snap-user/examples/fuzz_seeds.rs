//! Writes what the fuzz targets begin with: `cargo run -p freezeframe --example fuzz_seeds -- fuzz/seeds`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};

use common::{Draft, archive, chain};
use freezeframe::archive::elsewhere::Place;
use snap_common::abi;

fn main() {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("fuzz/seeds"), PathBuf::from);
    for (target, seeds) in [
        ("archive", archives()),
        ("core_head", heads()),
        ("image", vec![("one.img", image())]),
    ] {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).expect("a folder for the seeds");
        for (name, bytes) in seeds {
            write(&folder.join(name), &bytes);
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("the folder takes the seeds");
}

fn archives() -> Vec<(&'static str, Vec<u8>)> {
    let (base, child) = chain();
    vec![
        ("base.tar", base),
        ("child.tar", child),
        ("empty.tar", archive("empty", None, &[])),
        (
            "one.tar",
            archive("one", None, &[Draft::new(1).memory(0, 1, &[1])]),
        ),
    ]
}

fn heads() -> Vec<(&'static str, Vec<u8>)> {
    let draft = Draft::new(1)
        .memory(0, 4, &[1])
        .memory(8, 4, &[])
        .elsewhere(2, 1, Place::SameArchive, 2, 0)
        .elsewhere(8, 3, Place::Parent, 1, 8);
    vec![("core", draft.core()), ("empty", Draft::new(1).core())]
}

/// A record of nothing but zeros.
fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for the records of `abi`, which are made of integers alone.
    unsafe { std::mem::zeroed() }
}

fn bytes_of<T: Copy>(record: &T) -> &[u8] {
    // SAFETY: as many bytes as the record has, and the records of `abi` have no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>()) }
}

/// One process with one thread, one mapping and one page.
fn image() -> Vec<u8> {
    let mut header: abi::ImageHeader = zeroed();
    header.magic = abi::IMAGE_MAGIC;
    header.version = abi::IMAGE_VERSION;
    header.page_size = 4096;
    let mut process: abi::ImageProcess = zeroed();
    process.pid = 1;
    process.thread_count = 1;
    process.vma_count = 1;
    let mut thread: abi::ImageThread = zeroed();
    thread.pid = 1;
    let mut vma: abi::ImageVma = zeroed();
    (vma.start, vma.end, vma.run_count) = (0x1000, 0x3000, 1);
    let mut run: abi::ImageRun = zeroed();
    (run.vaddr, run.pages) = (0x1000, 1);

    let mut tables = Vec::new();
    let mut table = |record: &[u8]| {
        let offset = size_of::<abi::ImageHeader>() + tables.len();
        tables.extend_from_slice(record);
        abi::Table {
            offset: offset as u64,
            count: 1,
            stride: u32::try_from(record.len()).expect("a record is short"),
        }
    };
    header.processes = table(bytes_of(&process));
    header.threads = table(bytes_of(&thread));
    header.vmas = table(bytes_of(&vma));
    header.runs = table(bytes_of(&run));
    header.blobs = table(b"/bin/x\0\0");
    for (table, record) in [
        (&mut header.fds, size_of::<abi::ImageFd>()),
        (&mut header.files, size_of::<abi::ImageFile>()),
    ] {
        table.stride = u32::try_from(record).unwrap();
    }
    header.data_offset = 4096;
    header.data_pages = 1;
    let mut image = bytes_of(&header).to_vec();
    image.extend(tables);
    image.resize(2 * 4096, 0);
    image
}
