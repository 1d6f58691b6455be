//! Writes what the fuzz targets begin with: `cargo run -p freezeframe --example fuzz_seeds -- fuzz/seeds`.

#[path = "../tests/common/mod.rs"]
mod common;
mod made_up;

use std::path::{Path, PathBuf};

use common::{Draft, archive, chain};
use freezeframe::archive::elsewhere::Place;
use made_up::{Head, zeroed};
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

/// One process with one thread, one mapping and one page.
fn image() -> Vec<u8> {
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

    let mut head = Head::new(1);
    head.header.processes = head.table(&[process]);
    head.header.threads = head.table(&[thread]);
    head.header.vmas = head.table(&[vma]);
    head.header.runs = head.table(&[run]);
    head.header.fds = head.table::<abi::ImageFd>(&[]);
    head.header.files = head.table::<abi::ImageFile>(&[]);
    head.header.blobs = head.table(b"/bin/x\0\0");
    let mut image = head.bytes();
    image.resize(image.len() + 4096, 0);
    image
}
