//! Compression on all processors: frames of about the same size, each on its own, and in order. A reader sees one stream: both formats
//! allow frames to follow each other.

mod frame;

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use self::frame::Compressor;
use super::channel::{Flow, Inlet, Outlet};
use super::{Ended, StreamError};

/// A frame is closed when it has this much or more. Whole pieces go into it, so that a large one makes a frame of its own and is
/// compressed from where it is. Measured with zstd at level 3: of 1, 2, 4 and 8 MiB, the first is 5, 7 and 15 % faster than the others,
/// and its output 1 to 2 % larger.
const FRAME_BYTES: usize = (1 << 20) - (64 << 10);
/// More frames at once do not get faster than what comes after them.
const MOST_WORKERS: usize = 16;
/// What all frames at once may take of memory, in MiB.
const MEMORY_MIB: usize = 32;
/// The level of zstd where none is named, as its own tool has it.
const ZSTD_LEVEL: i32 = 3;

/// How an image is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Small.
    Zstd {
        /// From 1, fast, to 19, small.
        level: i32,
    },
    /// Fast.
    Lz4,
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = match text.split_once(':') {
            None if text == "none" => return Ok(Self::None),
            None if text == "lz4" => return Ok(Self::Lz4),
            None if text == "zstd" => Some(ZSTD_LEVEL),
            Some(("zstd", level)) => level.parse().ok().filter(|level| (1..=19).contains(level)),
            _ => None,
        };
        let level = level.ok_or("it is zstd, zstd:LEVEL with a level of 1 to 19, lz4, or none")?;
        Ok(Self::Zstd { level })
    }
}

impl TryFrom<String> for Compression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Compression> for String {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => "none".into(),
            Compression::Zstd { level } => format!("zstd:{level}"),
            Compression::Lz4 => "lz4".into(),
        }
    }
}

/// How many threads may compress.
fn processors() -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(MOST_WORKERS)
}

/// Shared by all pipelines of the process: more of them do not make more processors.
static PROCESSORS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(processors())));

impl Compression {
    /// What one frame more takes of memory, with its tables and buffers: measured with 2 to 16 of them, and rounded up.
    const fn frame_mib(self) -> usize {
        match self {
            Self::None => 1,
            Self::Zstd { level: ..6 } => 2,
            Self::Lz4 => 4,
            Self::Zstd { level: 6..9 } => 5,
            Self::Zstd { level: 9..13 } => 12,
            Self::Zstd { level: 13.. } => 18,
        }
    }

    /// How many frames are compressed at once; two at least, whatever that takes.
    fn workers(self) -> usize {
        processors().min((MEMORY_MIB / self.frame_mib()).max(2))
    }
}

/// A frame being compressed.
type Job = JoinHandle<std::io::Result<Bytes>>;

/// Compresses until the end of the archive.
pub(super) async fn run(compression: Compression, inlet: Inlet, outlet: Outlet) -> Result<(), Ended> {
    // In order of the archive; one waits to be sent besides.
    let (jobs, waiting) = mpsc::channel(compression.workers());
    let (cut, sent) = tokio::join!(cut(compression, inlet, jobs), send(waiting, outlet));
    // Who fails first leaves the other without a neighbour.
    match (cut, sent) {
        (_, Err(Ended::Failed(error))) => Err(Ended::Failed(error)),
        (cut, Ok(())) => cut,
        (_, sent) => sent,
    }
}

/// Cuts frames and starts their compression.
async fn cut(
    compression: Compression,
    mut inlet: Inlet,
    jobs: mpsc::Sender<Option<Job>>,
) -> Result<(), Ended> {
    let idle = Arc::new(Mutex::new(Vec::new()));
    let memory = Arc::new(Semaphore::new(compression.workers()));
    let mut frame = Vec::new();
    let (mut size, mut empty) = (0, true);
    loop {
        let end = match inlet.recv().await? {
            Flow::Piece(piece) => {
                size += piece.len();
                frame.push(piece);
                false
            }
            Flow::End => true,
        };
        // Of nothing there is one empty frame, so that tools know the format.
        if size >= FRAME_BYTES || (end && (size > 0 || empty)) {
            // Neither is ever closed.
            let room = Arc::clone(&memory).acquire_owned().await;
            let processor = Arc::clone(&PROCESSORS).acquire_owned().await;
            let permits = (
                room.map_err(|_| Ended::Neighbour)?,
                processor.map_err(|_| Ended::Neighbour)?,
            );
            let job = start(compression, std::mem::take(&mut frame), &idle, permits);
            jobs.send(Some(job)).await.map_err(|_| Ended::Neighbour)?;
            (size, empty) = (0, false);
        }
        if end {
            return jobs.send(None).await.map_err(|_| Ended::Neighbour);
        }
    }
}

/// What a frame was compressed with is used again.
type Idle = Arc<Mutex<Vec<Compressor>>>;

/// Memory, and a processor.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

fn start(compression: Compression, frame: Vec<Bytes>, idle: &Idle, permits: Permits) -> Job {
    let idle = Arc::clone(idle);
    tokio::task::spawn_blocking(move || {
        let _permits = permits;
        let used = idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut compressor = match used {
            Some(compressor) => compressor,
            None => Compressor::new(compression)?,
        };
        let compressed = compressor.frame(frame)?;
        if let Ok(mut idle) = idle.lock() {
            idle.push(compressor);
        }
        Ok(compressed)
    })
}

/// Passes on what is compressed, in order.
async fn send(mut jobs: mpsc::Receiver<Option<Job>>, outlet: Outlet) -> Result<(), Ended> {
    loop {
        match jobs.recv().await.ok_or(Ended::Neighbour)? {
            Some(job) => {
                let frame = job.await?.map_err(StreamError::Compress)?;
                outlet.send(Flow::Piece(frame)).await?;
            }
            None => return outlet.send(Flow::End).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Compression;

    #[test]
    fn compressions_have_names() {
        for (name, compression) in [
            ("none", Compression::None),
            ("lz4", Compression::Lz4),
            ("zstd:19", Compression::Zstd { level: 19 }),
        ] {
            assert_eq!(name.parse(), Ok(compression));
            assert_eq!(String::from(compression), name);
        }
        assert_eq!("zstd".parse(), Ok(Compression::Zstd { level: 3 }));
        for wrong in ["", "zstd:0", "zstd:20", "zstd:x", "lz4:1", "none:1"] {
            assert!(wrong.parse::<Compression>().is_err(), "{wrong}");
        }
    }
}
