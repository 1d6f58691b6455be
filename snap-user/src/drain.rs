//! Streaming an image out: a blocking reader, a bounded channel of `Bytes`, an asynchronous sink.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::device::Snapshot;
use crate::image::{Image, ImageError, write_archive};

/// Size of one piece of the stream.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that may wait for the sink: with the two in hand, the memory that a drain takes.
const PIECES: usize = 4;

/// Why a drain failed.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The image is not what we expected.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The snapshot could not be read.
    #[error("cannot read the snapshot: {0}")]
    Read(io::Error),
    /// The sink did not take it.
    #[error("{0}")]
    Write(io::Error),
    /// The reading thread panicked.
    #[error("the reading thread failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Writes the archive of `snapshot` to `sink` and returns how many bytes that were. The snapshot is released when
/// the caller drops its last handle.
///
/// # Errors
///
/// When the snapshot cannot be read or the sink does not take it.
pub async fn drain(snapshot: Arc<Snapshot>, mut sink: impl AsyncWrite + Unpin) -> Result<u64, DrainError> {
    let (sender, mut receiver) = mpsc::channel(PIECES);
    let reader = tokio::task::spawn_blocking(move || -> Result<(), DrainError> {
        let image = Image::read(snapshot.as_ref(), snapshot.image_bytes())?;
        write_archive(
            &image,
            snapshot.as_ref(),
            ChannelWriter {
                sender,
                piece: BytesMut::new(),
            },
        )
        .map_err(DrainError::Read)
    });
    let mut written = 0;
    let mut failed = None;
    while let Some(piece) = receiver.recv().await {
        if let Err(error) = sink.write_all(&piece).await {
            failed = Some(error);
            break;
        }
        written += piece.len() as u64;
    }
    drop(receiver); // the reader stops at its next piece
    let read = reader.await?;
    match failed {
        Some(error) => Err(DrainError::Write(error)),
        None => {
            read?;
            sink.flush().await.map_err(DrainError::Write)?;
            Ok(written)
        }
    }
}

/// Cuts what is written into pieces and sends them.
struct ChannelWriter {
    sender: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl ChannelWriter {
    fn send(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        self.sender
            .blocking_send(piece)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece
            .reserve(bytes.len().max(PIECE_BYTES - self.piece.len()));
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            Ok(())
        } else {
            self.send()
        }
    }
}
