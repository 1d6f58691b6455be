//! The near end of a pipeline: a thread that may block writes the archive here.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::channel::Flow;
use super::{Cancel, PIECE_BYTES};
use crate::archive::members::Sink;

/// Small writes are gathered up to this size.
const GATHER_BYTES: usize = 64 << 10;

/// The pipeline takes no more; the `Pipeline` knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the archive is wanted no more")]
pub struct Closed;

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, closed)
    }
}

/// Writes an archive into a pipeline, on a thread that may block. Dropped before [`Self::finish`], it aborts the pipeline.
#[derive(Debug)]
pub struct Writer {
    sender: mpsc::Sender<Flow>,
    stop: Cancel,
    gathered: BytesMut,
}

impl Writer {
    pub(super) fn new(sender: mpsc::Sender<Flow>, stop: Cancel) -> Self {
        Self {
            sender,
            stop,
            gathered: BytesMut::new(),
        }
    }

    /// Hands over a piece as it is, and waits as long as the pipeline is full. The piece is dropped as soon as it is compressed,
    /// encrypted or written, whichever comes first.
    ///
    /// # Errors
    ///
    /// When the pipeline has ended.
    pub fn send(&mut self, mut piece: Bytes) -> Result<(), Closed> {
        self.send_gathered()?;
        while piece.len() > PIECE_BYTES {
            self.hand_over(Flow::Piece(piece.split_to(PIECE_BYTES)))?;
        }
        if piece.is_empty() {
            return Ok(());
        }
        self.hand_over(Flow::Piece(piece))
    }

    /// Says that the archive is whole.
    ///
    /// # Errors
    ///
    /// When the pipeline has ended before.
    pub fn finish(mut self) -> Result<(), Closed> {
        self.send_gathered()?;
        self.hand_over(Flow::End)
    }

    fn send_gathered(&mut self) -> Result<(), Closed> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = self.gathered.split().freeze();
        self.hand_over(Flow::Piece(piece))
    }

    fn hand_over(&self, flow: Flow) -> Result<(), Closed> {
        if self.stop.is_cancelled() {
            return Err(Closed);
        }
        self.sender.blocking_send(flow).map_err(|_| Closed)
    }
}

impl Sink for Writer {
    fn put(&mut self, piece: Bytes) -> io::Result<()> {
        Ok(self.send(piece)?)
    }
}

/// For what is small, and is copied.
impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.reserve(
            bytes
                .len()
                .max(GATHER_BYTES - self.gathered.len().min(GATHER_BYTES)),
        );
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHER_BYTES {
            let piece = self.gathered.split().freeze();
            self.send(piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.send_gathered()?)
    }
}
