//! The pages of a snapshot, mapped as they are, and let go when they are written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use snap_common::abi::Stretch;

use super::DropBehind;
use crate::device::{ImageSource, Snapshot};

/// What was let go.
#[derive(Debug, Default)]
pub(super) struct Freed {
    sole: AtomicU64,
}

impl Freed {
    /// How many pages nobody but the image had.
    pub(super) fn sole(&self) -> u64 {
        self.sole.load(Relaxed)
    }
}

/// A snapshot that is read once, from its first page to its last.
#[derive(Clone, Debug)]
pub(super) struct Source {
    snapshot: Arc<Snapshot>,
    behind: DropBehind,
    freed: Arc<Freed>,
}

impl Source {
    pub(super) const fn new(snapshot: Arc<Snapshot>, behind: DropBehind, freed: Arc<Freed>) -> Self {
        Self {
            snapshot,
            behind,
            freed,
        }
    }

    pub(super) fn image_bytes(&self) -> u64 {
        self.snapshot.image_bytes()
    }
}

/// Pages that are needed once more are copied, as the trait does by itself: those that are mapped cannot be let go, and whoever writes the
/// copy may still be at it when the last piece with them is done.
impl ImageSource for Source {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.snapshot.read_exact_at(buffer, offset)
    }

    fn last_pages(&self, offset: u64, bytes: usize, page: u64) -> io::Result<Bytes> {
        let mapped = self.snapshot.pages(offset, bytes)?;
        if self.behind == DropBehind::Off {
            return Ok(mapped);
        }
        Ok(Bytes::from_owner(Dropping {
            page,
            pages: bytes as u64 / crate::image::PAGE,
            mapped,
            source: self.clone(),
        }))
    }

    fn look(&self, stretches: &mut [Stretch]) -> io::Result<()> {
        self.snapshot.look_at(stretches)
    }

    fn release(&self, page: u64, pages: u64) -> io::Result<()> {
        if self.behind == DropBehind::Off {
            return Ok(());
        }
        let released = self.snapshot.release(page, pages)?;
        self.freed.sole.fetch_add(released.sole, Relaxed);
        Ok(())
    }
}

/// Pages that are let go with their last piece.
struct Dropping {
    page: u64,
    pages: u64,
    mapped: Bytes,
    source: Source,
}

impl AsRef<[u8]> for Dropping {
    fn as_ref(&self) -> &[u8] {
        &self.mapped
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.mapped = Bytes::new(); // what is mapped stays
        if let Err(error) = self.source.release(self.page, self.pages) {
            // They go with the snapshot.
            tell!("cannot let go of pages of the image: {error}");
        }
    }
}
