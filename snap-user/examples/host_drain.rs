//! How fast an image is written on this machine's own processor: `cargo run --release -p freezeframe --example host_drain -- ROUNDS`.
//! The snapshot is made up (one process with 512 MiB of what lies in /usr/bin and /usr/lib, in a tmpfs), all that comes after it is real: the
//! archive, its sums, compression, encryption. Beside it, in turn, `dd`, `zstd -T0` and `age` on the same bytes. Prints a line of JSON for each.

mod made_up;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use freezeframe::archive::order::Order;
use freezeframe::archive::write::{Archive, Facts};
use freezeframe::device::ImageSource;
use freezeframe::image::{Image, PAGE};
use freezeframe::stream::compress::Compression;
use freezeframe::stream::encrypt::Encryption;
use freezeframe::stream::options::StreamOptions;
use freezeframe::stream::sink::{Destination, Sink};
use freezeframe::stream::{Cancel, pipeline};
use made_up::{Head, zeroed};
use rustix::mm::{MapFlags, ProtFlags};
use snap_common::abi;

const PAGES: u64 = (512 << 20) / PAGE;
const START: u64 = 0x7000_0000;
/// Where the image lies, and what is made of it.
const FOLDER: &str = "/dev/shm/freezeframe-host-drain";

/// An image, mapped as the module's descriptor is.
#[derive(Clone, Copy)]
struct Mapped(&'static [u8]);

impl ImageSource for Mapped {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn pages(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        Ok(Bytes::from_static(&self.0[at..at + bytes]))
    }
}

/// The tables of an image of one process with one mapping.
fn tables() -> Vec<u8> {
    let mut process: abi::ImageProcess = zeroed();
    process.pid = 42;
    process.vma_count = 1;
    let mut vma: abi::ImageVma = zeroed();
    (vma.start, vma.end) = (START, START + PAGES * PAGE);
    vma.flags = abi::VMA_READ | abi::VMA_WRITE;
    vma.run_count = 1;
    let mut run: abi::ImageRun = zeroed();
    run.vaddr = START;
    run.pages = u32::try_from(PAGES).expect("few");
    let mut head = Head::new(PAGES);
    head.header.processes = head.table(&[process]);
    head.header.threads = head.table::<abi::ImageThread>(&[]);
    head.header.vmas = head.table(&[vma]);
    head.header.runs = head.table(&[run]);
    head.header.fds = head.table::<abi::ImageFd>(&[]);
    head.header.files = head.table::<abi::ImageFile>(&[]);
    head.header.blobs = head.table::<u8>(&[]);
    head.bytes()
}

/// Fills the data pages with programs and libraries, over and over.
fn fill(file: &mut File) -> io::Result<()> {
    let mut left = PAGES * PAGE;
    while left != 0 {
        let before = left;
        for folder in ["/usr/bin", "/usr/lib/x86_64-linux-gnu"] {
            let mut paths: Vec<_> = fs::read_dir(folder)?
                .flatten()
                .map(|entry| entry.path())
                .collect();
            paths.sort();
            for path in paths.iter().filter(|path| path.is_file()) {
                left -= io::copy(&mut File::open(path)?.take(left), file)?;
            }
        }
        if left == before {
            return Err(io::Error::other("there is nothing in /usr/bin"));
        }
    }
    Ok(())
}

fn map(path: &Path) -> io::Result<Mapped> {
    let file = File::open(path)?;
    let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ,
            MapFlags::SHARED,
            &file,
            0,
        )?
    };
    // SAFETY: it is never unmapped, and nobody writes to the file.
    let mapped = unsafe { std::slice::from_raw_parts(start.cast::<u8>().cast_const(), bytes) };
    Ok(Mapped(mapped))
}

/// Writes the archive, and returns how long that took.
async fn write(source: Mapped, options: &StreamOptions, to: &Path) -> u128 {
    let begin = Instant::now();
    let sink = Sink::open(&Destination::File(to.to_owned()))
        .await
        .expect("it can be written");
    let (writer, pipeline) = pipeline(options, sink, Arc::default(), Cancel::new());
    let writing = tokio::task::spawn_blocking(move || {
        let image = Image::read(&source, source.0.len() as u64).expect("it is sound");
        let mut archive =
            Archive::new(&image, &source, None, Order::Address, Facts::here()).expect("it can be read");
        let writer = archive.write(writer).expect("it is taken");
        writer.finish().expect("to its end");
    });
    pipeline.await.expect("it arrives");
    writing.await.expect("nothing panics");
    begin.elapsed().as_nanos()
}

fn run(script: &str) -> u128 {
    let begin = Instant::now();
    let output = Command::new("sh").args(["-c", script]).output().expect("sh runs");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    begin.elapsed().as_nanos()
}

/// Goes with us.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::main]
async fn main() {
    let rounds: u32 = std::env::args()
        .nth(1)
        .map_or(5, |text| text.parse().expect("ROUNDS"));
    let folder = Folder(FOLDER.into());
    fs::create_dir_all(&folder.0).expect("there is a tmpfs");
    let (image, sealed, ours) = (
        folder.0.join("image"),
        folder.0.join("sealed"),
        folder.0.join("ours"),
    );
    let mut file = File::create(&image).expect("it takes files");
    file.write_all(&tables())
        .and_then(|()| fill(&mut file))
        .expect("it has room");
    let source = map(&image).expect("it can be mapped");
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let plain = StreamOptions::default();
    let both = StreamOptions {
        compression: Compression::Zstd { level: 3 },
        encryption: Encryption::Recipients(vec![recipient.parse().expect("it is one")]),
        rate: None,
    };
    let (from, to) = (image.display(), sealed.display());
    let tools = format!("zstd -3 -T0 -q -c {from} | age -r {recipient} -o {to}");
    let say = |method: &str, round: u32, ns: u128| {
        let bytes = source.0.len();
        println!(
            "{{\"what\":\"host\",\"method\":\"{method}\",\"round\":{round},\"bytes\":{bytes},\"ns\":{ns}}}"
        );
    };
    for round in 0..rounds {
        say(
            "dd to null",
            round,
            run(&format!("dd if={from} of=/dev/null bs=1M")),
        );
        say(
            "image to null",
            round,
            write(source, &plain, Path::new("/dev/null")).await,
        );
        say("zstd and age", round, run(&tools));
        say("image by zstd and age", round, write(source, &both, &ours).await);
        for made in [&sealed, &ours] {
            fs::remove_file(made).expect("it was made");
        }
    }
}
