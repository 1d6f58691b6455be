//! From the archive's writer to where the archive goes: paced, compressed, encrypted, written.
//!
//! ```text
//! Writer (a thread that may block) → source → compress → encrypt → sink
//! ```
//!
//! Stages hand each other `Bytes` over channels that hold few of them, so the memory that a pipeline takes does not grow with the
//! image, and a slow stage slows those before it. What is not compressed or encrypted goes to the sink as it came, without a copy.
//! An end that nobody announced is an abort: whatever goes away in the middle, no half archive is ever taken for a whole one.

mod channel;
pub mod compress;
pub mod encrypt;
pub mod open;
pub mod options;
pub mod progress;
pub mod sink;
mod source;
pub mod store;
mod writer;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::DropGuard;

use self::channel::{Inlet, channel};
use self::compress::Compression;
use self::encrypt::Encryption;
use self::options::StreamOptions;
use self::progress::{Progress, Stage};
use self::sink::Sink;
use self::store::ObjectError;
use crate::output::OutputError;

pub use self::writer::{Closed, Writer};
/// Ends a pipeline at once, whatever it waits for.
pub use tokio_util::sync::CancellationToken as Cancel;

/// What the writer hands over at once, at most.
pub const PIECE_BYTES: usize = 1 << 20;
/// Pieces that may wait between two stages.
const PIECES: usize = 2;

/// Why an archive did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// We were told to stop.
    #[error("stopped; nothing is left of the image")]
    Cancelled,
    /// The writer went away before the end. It knows why.
    #[error("the archive was not written to its end; nothing is left of the image")]
    Unfinished,
    /// The compressor refused.
    #[error("cannot compress the image: {0}")]
    Compress(std::io::Error),
    /// The encryptor refused.
    #[error("cannot encrypt the image: {0}")]
    Encrypt(std::io::Error),
    /// A file, a pipe or a device did not take it.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An object store did not take it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A stage panicked.
    #[error("a stage of the pipeline failed: {0}")]
    Stage(#[from] JoinError),
}

impl StreamError {
    /// Whether an image is there all the same: whole, but not under its name.
    #[must_use]
    pub const fn keeps_the_image(&self) -> bool {
        matches!(self, Self::Output(OutputError::Rename { .. }))
    }
}

/// An archive that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its size where it is, compressed and encrypted.
    pub bytes: u64,
}

/// How a stage ended that did not reach the end of the archive.
enum Ended {
    /// Another stage, or the writer, went away first, and knows why.
    Neighbour,
    /// By itself.
    Failed(StreamError),
}

impl<E: Into<StreamError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Starts a pipeline into `sink`, within a tokio runtime. Give the writer to a thread that may block, and await the [`Pipeline`]:
/// also after an error and after `cancel`, for only then the sink has put away what it had.
#[must_use]
pub fn pipeline(
    options: &StreamOptions,
    sink: Sink,
    progress: Arc<Progress>,
    cancel: Cancel,
) -> (Writer, Pipeline) {
    // Ends every stage when one fails.
    let stop = cancel.child_token();
    let (sender, receiver) = tokio::sync::mpsc::channel(PIECES);
    let writer = Writer::new(sender, stop.clone());

    let (outlet, inlet) = channel(&progress, Stage::Read, Stage::Compress);
    let source = source::run(receiver, outlet, options.rate, stop.clone());
    let (compress, inlet) = compress_stage(options.compression, inlet, &progress);
    let (encrypt, inlet) = encrypt_stage(&options.encryption, inlet, &progress);
    let sink = sink::run(sink, inlet, progress, stop.clone());

    let guard = stop.clone().drop_guard();
    let task = tokio::spawn(async move {
        let (source, compress, encrypt, sink) = tokio::join!(
            stopping(&stop, source),
            stopping(&stop, compress),
            stopping(&stop, encrypt),
            stopping(&stop, sink)
        );
        let ends = [source, compress, encrypt].map(Result::err);
        let (written, sink) = match sink {
            Ok(bytes) => (bytes, None),
            Err(end) => (0, Some(end)),
        };
        let mut lost = false;
        for end in ends.into_iter().chain([sink]).flatten() {
            match end {
                Ended::Failed(error) => return Err(error),
                Ended::Neighbour => lost = true,
            }
        }
        match (lost, cancel.is_cancelled()) {
            (false, _) => Ok(Written { bytes: written }),
            (true, true) => Err(StreamError::Cancelled),
            (true, false) => Err(StreamError::Unfinished),
        }
    });
    (writer, Pipeline { task, _guard: guard })
}

/// The others have nothing to do any more when a stage fails.
async fn stopping<T>(stop: &Cancel, stage: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    let end = stage.await;
    if end.is_err() {
        stop.cancel();
    }
    end
}

/// A stage that may have nothing to do.
type MaybeStage = Pin<Box<dyn Future<Output = Result<(), Ended>> + Send>>;

fn compress_stage(compression: Compression, inlet: Inlet, progress: &Arc<Progress>) -> (MaybeStage, Inlet) {
    if compression == Compression::None {
        return (Box::pin(async { Ok(()) }), inlet);
    }
    let (outlet, next) = channel(progress, Stage::Compress, Stage::Encrypt);
    (Box::pin(compress::run(compression, inlet, outlet)), next)
}

fn encrypt_stage(encryption: &Encryption, inlet: Inlet, progress: &Arc<Progress>) -> (MaybeStage, Inlet) {
    if *encryption == Encryption::None {
        return (Box::pin(async { Ok(()) }), inlet);
    }
    let (outlet, next) = channel(progress, Stage::Encrypt, Stage::Write);
    let encryption = encryption.clone();
    // Started at once: a passphrase takes a while to become a key.
    let thread = tokio::task::spawn_blocking(move || encrypt::run(&encryption, inlet, outlet));
    (Box::pin(async { thread.await? }), next)
}

/// A pipeline under way: resolves when all stages have ended, and the archive is where it belongs or nothing is left of it. Dropped
/// before, it is cancelled, and puts away what it had as long as its runtime lives.
#[derive(Debug)]
pub struct Pipeline {
    task: JoinHandle<Result<Written, StreamError>>,
    _guard: DropGuard,
}

impl Future for Pipeline {
    type Output = Result<Written, StreamError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.task).poll(context))?)
    }
}

#[cfg(test)]
mod tests;
