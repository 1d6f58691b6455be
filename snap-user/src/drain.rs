//! Streaming an image out: the archive is written by a thread that maps the pages, and goes through the pipeline to where it is
//! wanted. What is written is let go at once (drop-behind), so that nobody copies it any more before he writes to it.

mod source;
mod watch;

use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;

use self::source::{Freed, Source};
use crate::archive::order::Order;
use crate::archive::plan::ParentImage;
use crate::archive::write::{Archive, Facts, LayOutError};
use crate::device::Snapshot;
use crate::image::{Image, ImageError};
use crate::stream::options::StreamOptions;
use crate::stream::progress::{Progress, Snapshot as Far};
use crate::stream::sink::Sink;
use crate::stream::{Cancel, StreamError, Writer, Written, pipeline};

/// Whether pages are let go as soon as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DropBehind {
    /// They are
    #[default]
    On,
    /// All of them are held until the image is written
    Off,
}

/// How an image is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// What is done to it on the way.
    pub stream: StreamOptions,
    /// Which pages go first.
    pub order: Order,
    /// What becomes of them.
    pub drop_behind: DropBehind,
    /// How much memory may be held for the image alone, in bytes; past that the snapshot is given up.
    pub max_memory: Option<u64>,
    /// The image that has what did not change.
    pub parent: Option<ParentImage>,
}

/// Why a drain failed.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The image is not what we expected.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The snapshot could not be read.
    #[error("cannot read the snapshot: {0}")]
    Read(std::io::Error),
    /// Nobody could read the archive.
    #[error(transparent)]
    LayOut(LayOutError),
    /// The archive did not arrive.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The copies took too much memory.
    #[error(
        "the snapshot holds {held} bytes of memory for itself alone, more than --max-memory {limit}; it was given up, the processes \
         run on, and nothing is left of the image; write it faster, or allow more"
    )]
    Memory {
        /// What it held.
        held: u64,
        /// What was allowed.
        limit: u64,
    },
    /// A thread panicked.
    #[error("the thread that writes the image failed: {0}")]
    Thread(#[from] JoinError),
}

impl From<LayOutError> for DrainError {
    fn from(error: LayOutError) -> Self {
        match error {
            LayOutError::Read(source) => Self::Read(source),
            too_large @ LayOutError::TooLarge { .. } => Self::LayOut(too_large),
        }
    }
}

/// An image that was written.
#[derive(Clone, Debug)]
pub struct Drained {
    /// Its size where it is.
    pub bytes: u64,
    /// Its `image_id`.
    pub image_id: String,
    /// Pages that the processes had to copy before they wrote to them, or gave back, from the instant until they were let go.
    pub pages_broken: u64,
    /// What went through each stage.
    pub progress: Far,
    /// Processes that the image holds whole although it has a parent: each with the reason.
    pub whole: Vec<(i32, String)>,
}

/// Writes the archive of `snapshot` into `sink`. When this returns, the sink is finished, or nothing is left in it. The snapshot is
/// released when the caller drops its last handle.
///
/// # Errors
///
/// When the snapshot cannot be read, the sink does not take it, it takes too much memory, or it is cancelled.
pub async fn drain(
    snapshot: Arc<Snapshot>,
    job: &Drain,
    sink: Sink,
    progress: Arc<Progress>,
    cancel: Cancel,
) -> Result<Drained, DrainError> {
    let stop = cancel.child_token();
    let (writer, pipeline) = pipeline(&job.stream, sink, Arc::clone(&progress), stop.clone());
    let freed = Arc::new(Freed::default());
    let (order, parent) = (job.order, job.parent.clone());
    let source = Source::new(Arc::clone(&snapshot), job.drop_behind, Arc::clone(&freed));
    let total = Arc::clone(&progress);
    let write = tokio::task::spawn_blocking(move || write(&source, parent.as_ref(), order, &total, writer));
    let watch = watch::memory(Arc::clone(&snapshot), job.max_memory, stop.clone());
    let work = async {
        let (written, arrived) = tokio::join!(write, pipeline);
        (written, arrived)
    };
    tokio::pin!(work);
    let (ends, memory) = tokio::select! {
        ends = &mut work => (ends, None),
        // It has stopped the others, which put away what they had.
        memory = watch => (work.await, Some(memory)),
    };
    let (written, arrived) = ends;
    let (manifest, arrived) = judge(written?, arrived, memory)?;
    Ok(Drained {
        bytes: arrived.bytes,
        image_id: manifest.image_id,
        pages_broken: broken(&snapshot, &freed),
        progress: progress.snapshot(),
        whole: manifest
            .processes
            .into_iter()
            .filter_map(|entry| Some((entry.pid, entry.whole_because?)))
            .collect(),
    })
}

/// What came of it. An archive that has arrived is there, and stays: what would have stopped it a moment before came too late.
fn judge<M>(
    written: Result<M, DrainError>,
    arrived: Result<Written, StreamError>,
    memory: Option<DrainError>,
) -> Result<(M, Written), DrainError> {
    match (written, arrived, memory) {
        (written, Ok(arrived), _) => Ok((written?, arrived)),
        (_, Err(error), Some(memory)) if !error.keeps_the_image() => Err(memory),
        // Whoever was first says why.
        (Err(error), Err(StreamError::Unfinished), _) => Err(error),
        (_, Err(error), _) => Err(error.into()),
    }
}

/// Of all pages, those that only the image has, or had when they were let go; not those that were copied from the start.
fn broken(snapshot: &Snapshot, freed: &Freed) -> u64 {
    let held = snapshot.look().map_or(0, |look| look.sole);
    (held + freed.sole()).saturating_sub(snapshot.take().counts.pages_copied)
}

/// On a thread that may block.
fn write(
    source: &Source,
    parent: Option<&ParentImage>,
    order: Order,
    progress: &Progress,
    writer: Writer,
) -> Result<crate::archive::manifest::Manifest, DrainError> {
    let image = Image::read(source, source.image_bytes())?;
    let mut archive = Archive::new(&image, source, parent, order, Facts::here())?;
    progress.set_total(archive.core_bytes());
    let writer = archive.write(writer).map_err(DrainError::Read)?;
    writer
        .finish()
        .map_err(|closed| DrainError::Read(closed.into()))?;
    Ok(archive.into_manifest())
}

#[cfg(test)]
mod tests {
    use super::{DrainError, judge};
    use crate::output::OutputError;
    use crate::stream::{StreamError, Written};

    #[test]
    fn what_has_arrived_is_not_given_up() {
        let memory = || Some(DrainError::Memory { held: 2, limit: 1 });
        let written = || Err::<(), _>(DrainError::Read(std::io::ErrorKind::BrokenPipe.into()));
        let arrived = || Ok(Written { bytes: 3 });
        let late = judge(Ok(()), arrived(), memory());
        assert_eq!(late.unwrap().1.bytes, 3, "its name is taken: it is whole");
        assert!(matches!(
            judge(written(), Err(StreamError::Cancelled), memory()),
            Err(DrainError::Memory { .. })
        ));
        let unnamed = || OutputError::Rename {
            path: "image.tar".into(),
            partial: ".image.tar.partial.1".into(),
            source: std::io::ErrorKind::Unsupported.into(),
        };
        assert!(matches!(
            judge(Ok(()), Err(unnamed().into()), memory()),
            Err(DrainError::Stream(StreamError::Output(
                OutputError::Rename { .. }
            )))
        ));
        assert!(matches!(
            judge(written(), Err(StreamError::Unfinished), None),
            Err(DrainError::Read(_))
        ));
        assert!(matches!(
            judge(written(), Err(StreamError::Cancelled), None),
            Err(DrainError::Stream(StreamError::Cancelled))
        ));
    }
}
