//! Pipelines as a whole: what comes out, and what is left where nothing may.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::thread::CapabilitySet;
use tempfile::TempDir;

use super::compress::Compression;
use super::encrypt::{Encryption, Passphrase};
use super::open::{Keys, Location, open};
use super::options::StreamOptions;
use super::progress::{Progress, Stage};
use super::sink::{Destination, Sink};
use super::{Cancel, Closed, Pipeline, StreamError, Writer, Written, pipeline};
use crate::output::OutputError;

/// Words, noise and zeros, and more than all queues hold.
fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut noise = 1_u64;
    for round in 0..40_u64 {
        bytes.extend(
            format!("page {round} of a process, ")
                .bytes()
                .cycle()
                .take(200_000),
        );
        for _ in 0..8_000 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            bytes.extend(noise.to_le_bytes());
        }
        bytes.resize(bytes.len() + 40_000, 0);
    }
    bytes
}

fn options(compression: Compression, encryption: &Encryption) -> StreamOptions {
    StreamOptions {
        compression,
        encryption: encryption.clone(),
        rate: None,
    }
}

async fn start(options: &StreamOptions, path: &Path) -> (Writer, Pipeline) {
    let sink = Sink::open(&Destination::File(path.into())).await.unwrap();
    pipeline(options, sink, Arc::default(), Cancel::new())
}

/// Pieces of many sizes, and small writes between them.
fn write(mut writer: Writer, bytes: &[u8]) -> Result<(), Closed> {
    let mut rest = bytes;
    for size in [512, 1 << 20, 3_000_000, 4096, 100_000].into_iter().cycle() {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        if size == 512 {
            writer.write_all(piece).map_err(|_| Closed)?;
        } else {
            writer.send(Bytes::copy_from_slice(piece))?;
        }
        if rest.is_empty() {
            return writer.finish();
        }
    }
    Ok(())
}

async fn run(options: &StreamOptions, path: &Path, bytes: &[u8]) -> Result<Written, StreamError> {
    let (writer, pipeline) = start(options, path).await;
    let bytes = bytes.to_vec();
    let writing = tokio::task::spawn_blocking(move || write(writer, &bytes));
    let written = pipeline.await;
    // The last pieces may be on their way when a later stage fails.
    let handed_over = writing.await.unwrap();
    assert!(handed_over.is_ok() || written.is_err());
    written
}

/// Nothing in it, also nothing hidden.
fn is_empty(folder: &TempDir) -> bool {
    folder.path().read_dir().unwrap().count() == 0
}

struct Fixture {
    folder: TempDir,
    identity: Encryption,
    passphrase: Encryption,
    keys: Keys,
}

fn fixture() -> Fixture {
    use age::secrecy::ExposeSecret as _;

    let folder = tempfile::tempdir().unwrap();
    let key = age::x25519::Identity::generate();
    let (identity, passphrase) = (folder.path().join("key"), folder.path().join("passphrase"));
    let text = format!("# created: today\n{}\n", key.to_string().expose_secret());
    std::fs::write(&identity, text).unwrap();
    std::fs::write(&passphrase, "correct horse\n").unwrap();
    Fixture {
        identity: Encryption::Recipients(vec![key.to_public().to_string().parse().unwrap()]),
        passphrase: Encryption::Passphrase(Passphrase::from("correct horse".to_owned())),
        keys: Keys {
            identity: Some(identity),
            passphrase: Some(passphrase),
        },
        folder,
    }
}

const COMPRESSIONS: [Compression; 3] = [
    Compression::None,
    Compression::Zstd { level: 1 },
    Compression::Lz4,
];

#[tokio::test]
async fn whatever_goes_in_comes_out() {
    let fixture = fixture();
    let big = sample();
    for compression in COMPRESSIONS {
        for encryption in [&Encryption::None, &fixture.identity, &fixture.passphrase] {
            for bytes in [&big[..], &big[..0], &big[..1], &big[..65536]] {
                let path = fixture.folder.path().join("image");
                let written = run(&options(compression, encryption), &path, bytes)
                    .await
                    .unwrap();
                assert_eq!(written.bytes, path.metadata().unwrap().len());
                let mut back = Vec::new();
                let mut reader = open(&Location::File(path.clone()), &fixture.keys).unwrap();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == bytes, "{compression:?} {encryption:?} {}", bytes.len());
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn stages_are_counted() {
    let fixture = fixture();
    let bytes = sample();
    let progress = Arc::new(Progress::new());
    progress.set_total(bytes.len() as u64);
    let path = fixture.folder.path().join("image");
    let sink = Sink::open(&Destination::File(path.clone())).await.unwrap();
    let options = options(Compression::Zstd { level: 1 }, &fixture.identity);
    let (writer, pipeline) = pipeline(&options, sink, Arc::clone(&progress), Cancel::new());
    let size = bytes.len() as u64;
    tokio::task::spawn_blocking(move || write(writer, &bytes))
        .await
        .unwrap()
        .unwrap();
    let written = pipeline.await.unwrap();
    assert_eq!(progress.bytes(Stage::Read), size);
    assert_eq!(progress.bytes(Stage::Write), written.bytes);
    assert_eq!(progress.bytes(Stage::Encrypt), written.bytes);
    let compressed = progress.bytes(Stage::Compress);
    assert!(
        compressed < size / 2 && compressed < written.bytes,
        "{compressed}"
    );
    assert_eq!(progress.snapshot().remaining_seconds.map(f64::ceil), Some(0.0));
}

/// Of memory that wants to know when it is no longer needed.
struct Watched {
    memory: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

#[tokio::test]
async fn pieces_are_let_go_on_the_way() {
    let fixture = fixture();
    for compression in COMPRESSIONS {
        let path = fixture.folder.path().join("image");
        let (mut writer, pipeline) = start(&options(compression, &Encryption::None), &path).await;
        let held = Arc::new(());
        let counted = Arc::clone(&held);
        let most = tokio::task::spawn_blocking(move || {
            let mut most = 0;
            for _ in 0..100 {
                let piece = Watched {
                    memory: vec![7; 1 << 20],
                    _held: Arc::clone(&counted),
                };
                writer.send(Bytes::from_owner(piece)).unwrap();
                most = most.max(Arc::strong_count(&counted) - 2);
            }
            writer.finish().unwrap();
            most
        });
        let most = most.await.unwrap();
        pipeline.await.unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(most < 40, "{compression:?}: {most} of 100 pieces waited");
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn an_existing_file_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, "theirs").unwrap();
    let error = Sink::open(&Destination::File(path.clone())).await.unwrap_err();
    assert!(
        matches!(error, StreamError::Output(OutputError::Exists(_))),
        "{error}"
    );
    assert_eq!(std::fs::read(path).unwrap(), b"theirs");
}

#[tokio::test]
async fn devices_are_written_to_where_they_are() {
    let bytes = sample();
    let null = Path::new("/dev/null");
    let written = run(&StreamOptions::default(), null, &bytes).await.unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    assert!(null.metadata().unwrap().file_type().is_char_device());
}

#[tokio::test]
async fn a_sink_that_fails_in_the_middle_is_told() {
    let fixture = fixture();
    for compression in COMPRESSIONS {
        for encryption in [&Encryption::None, &fixture.identity] {
            let error = run(
                &options(compression, encryption),
                Path::new("/dev/full"),
                &sample(),
            )
            .await;
            let error = error.unwrap_err().to_string();
            assert!(
                error.starts_with("cannot write to /dev/full: No space left"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_writer_that_goes_away_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let path = folder.path().join("image");
        let (mut writer, pipeline) = start(&options(compression, &Encryption::None), &path).await;
        tokio::task::spawn_blocking(move || writer.send(Bytes::from(vec![1; 5 << 20])))
            .await
            .unwrap()
            .unwrap();
        let error = pipeline.await.unwrap_err();
        assert!(matches!(error, StreamError::Unfinished), "{error}");
        assert!(is_empty(&folder));
    }
}

#[tokio::test]
async fn a_cancelled_pipeline_leaves_nothing_and_stops_its_writer() {
    let fixture = fixture();
    let folder = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        for encryption in [&Encryption::None, &fixture.identity] {
            let cancel = Cancel::new();
            let sink = Sink::open(&Destination::File(folder.path().join("image")))
                .await
                .unwrap();
            let options = options(compression, encryption);
            let (mut writer, pipeline) = pipeline(&options, sink, Arc::default(), cancel.clone());
            // Writes for ever, unless it is stopped.
            let writing =
                tokio::task::spawn_blocking(
                    move || while writer.send(Bytes::from(vec![1; 1 << 20])).is_ok() {},
                );
            tokio::time::sleep(Duration::from_millis(20)).await;
            cancel.cancel();
            let error = pipeline.await.unwrap_err();
            assert!(matches!(error, StreamError::Cancelled), "{error}");
            writing.await.unwrap();
            assert!(is_empty(&folder));
        }
    }
}

#[tokio::test]
async fn a_cancelled_pipeline_waits_for_no_writer() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let sink = Sink::open(&Destination::File(folder.path().join("image")))
        .await
        .unwrap();
    let fixture = fixture();
    let options = options(Compression::Lz4, &fixture.identity);
    let (writer, pipeline) = pipeline(&options, sink, Arc::default(), cancel.clone());
    cancel.cancel();
    assert!(matches!(pipeline.await, Err(StreamError::Cancelled)));
    assert!(is_empty(&folder));
    drop(writer);
}

#[tokio::test]
async fn a_dropped_pipeline_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, pipeline) = start(&StreamOptions::default(), &folder.path().join("image")).await;
    drop(pipeline);
    while !is_empty(&folder) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut writer = writer;
    let sent = tokio::task::spawn_blocking(move || writer.send(Bytes::from_static(b"x")));
    assert_eq!(sent.await.unwrap(), Err(Closed));
}

fn to(end: OwnedFd) -> Sink {
    Sink::descriptor(end, &Destination::Stdout).unwrap()
}

/// To a pipe that we may write to and not open, as it is with one of another user's. This thread may be root's.
fn to_a_strangers(pipe: OwnedFd) -> Sink {
    rustix::fs::fchmod(&pipe, rustix::fs::Mode::empty()).unwrap();
    let all = rustix::thread::capabilities(None).unwrap();
    let mut fewer = all;
    fewer.effective -= CapabilitySet::DAC_OVERRIDE;
    rustix::thread::set_capabilities(None, fewer).unwrap();
    let opened = File::create(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
    let sink = Sink::descriptor(pipe, &Destination::Stdout);
    rustix::thread::set_capabilities(None, all).unwrap();
    assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    sink.unwrap()
}

/// More than any pipe or socket holds.
fn plenty() -> Bytes {
    Bytes::from(vec![1; 32 << 20])
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_is_given_up_at_once() {
    let (reader, pipe) = io::pipe().unwrap();
    let (strangers, other) = io::pipe().unwrap();
    let (unread, socket) = std::os::unix::net::UnixStream::pair().unwrap();
    for sink in [to(pipe.into()), to_a_strangers(other.into()), to(socket.into())] {
        let cancel = Cancel::new();
        let (mut writer, pipeline) =
            pipeline(&StreamOptions::default(), sink, Arc::default(), cancel.clone());
        let writing = tokio::task::spawn_blocking(move || writer.send(plenty()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!writing.is_finished(), "the pipe is full");
        cancel.cancel();
        let error = pipeline.await.unwrap_err();
        assert!(matches!(error, StreamError::Cancelled), "{error}");
        assert_eq!(writing.await.unwrap(), Err(Closed));
    }
    drop((reader, strangers, unread));
}

#[tokio::test]
async fn a_reader_that_goes_away_is_told() {
    let (reader, pipe) = io::pipe().unwrap();
    let (strangers, other) = io::pipe().unwrap();
    let (unread, socket) = std::os::unix::net::UnixStream::pair().unwrap();
    let sinks = [to(pipe.into()), to_a_strangers(other.into()), to(socket.into())];
    // Each goes when it has read a byte, and then it is the next one's turn.
    let going = tokio::task::spawn_blocking(move || {
        for mut reader in [reader, strangers] {
            reader.read_exact(&mut [0])?;
        }
        io::Result::Ok(())
    });
    drop(unread);
    for sink in sinks {
        let (mut writer, pipeline) = pipeline(&StreamOptions::default(), sink, Arc::default(), Cancel::new());
        let writing = tokio::task::spawn_blocking(move || writer.send(plenty()));
        let error = pipeline.await.unwrap_err().to_string();
        assert!(
            error.contains("Broken pipe") || error.contains("Connection reset"),
            "{error}"
        );
        assert_eq!(writing.await.unwrap(), Err(Closed));
    }
    going.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pipe_stays_as_others_have_it() {
    for open in [to, to_a_strangers] {
        let (mut reader, pipe) = io::pipe().unwrap();
        let theirs = pipe.try_clone().unwrap();
        let sink = open(pipe.into());
        let flags = rustix::fs::fcntl_getfl(&theirs).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        let (writer, pipeline) = pipeline(&StreamOptions::default(), sink, Arc::default(), Cancel::new());
        drop(theirs);
        let bytes = sample();
        let reading = tokio::task::spawn_blocking(move || {
            let mut back = Vec::new();
            reader.read_to_end(&mut back).map(|_| back)
        });
        let sent = bytes.clone();
        tokio::task::spawn_blocking(move || write(writer, &sent))
            .await
            .unwrap()
            .unwrap();
        pipeline.await.unwrap();
        assert!(reading.await.unwrap().unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_fifo_is_waited_for_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let fifo = path.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut back = Vec::new();
        File::open(fifo).unwrap().read_to_end(&mut back).map(|_| back)
    });
    let bytes = sample();
    run(&StreamOptions::default(), &path, &bytes).await.unwrap();
    assert!(reading.await.unwrap().unwrap() == bytes);
    assert!(path.metadata().unwrap().file_type().is_fifo());
}

#[tokio::test]
async fn somebody_else_may_write_and_we_give_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let destination = Destination::File(folder.path().join("image"));
    let bytes = sample();
    let ours = Sink::open(&destination).await.unwrap();
    let theirs = Sink::descriptor(ours.handle().unwrap().unwrap(), &destination).unwrap();
    let (writer, pipeline) = pipeline(&StreamOptions::default(), theirs, Arc::default(), Cancel::new());
    let sent = bytes.clone();
    tokio::task::spawn_blocking(move || write(writer, &sent))
        .await
        .unwrap()
        .unwrap();
    pipeline.await.unwrap();
    assert!(!folder.path().join("image").exists());
    ours.finish().await.unwrap();
    assert!(std::fs::read(folder.path().join("image")).unwrap() == bytes);
}

#[tokio::test]
async fn pipelines_run_side_by_side() {
    let fixture = fixture();
    let bytes = sample();
    let running = (0..12).map(|number| {
        let options = options(COMPRESSIONS[number % 3], &fixture.identity);
        let path = fixture.folder.path().join(number.to_string());
        let bytes = bytes.clone();
        tokio::spawn(async move { run(&options, &path, &bytes).await.map(|_| path) })
    });
    let running: Vec<_> = running.collect();
    for running in running {
        let path = running.await.unwrap().unwrap();
        let mut back = Vec::new();
        let mut reader = open(&Location::File(path), &fixture.keys).unwrap();
        reader.read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }
}
