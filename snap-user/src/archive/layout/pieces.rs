//! Mappings in pieces: cut where their units end, and the holes that are written.

use super::{Extent, Mapped, Scores, UNIT, What};
use crate::archive::head::PAGE;

/// Each hole makes a segment more, and so many of them a debugger opens at once: where there are more small holes, some are written as
/// zeros. What else makes segments cannot be helped: mappings, large holes, the order of streaming.
const SEGMENTS: usize = 8192;
/// Up to how many pages the written ones have: the first that leaves few enough.
const HOLES: [u64; 5] = [0, 1, 4, 16, 64];
/// No hole above this is ever written.
const SMALL_BYTES: u64 = HOLES[HOLES.len() - 1] * PAGE;

/// A part of a mapping that is of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Where it is, and what.
    pub extent: Extent,
    /// Of zeros: whether they are written.
    pub written: bool,
}

impl Piece {
    /// Whether its content is in the core.
    pub const fn is_in_the_file(&self) -> bool {
        self.written || matches!(self.extent.what, What::Data { .. } | What::Copied(_))
    }
}

/// Up to how many bytes holes are written.
pub(super) fn written_holes(mappings: &[Mapped]) -> u64 {
    let holes: Vec<_> = mappings
        .iter()
        .map(|mapped| &mapped.extents)
        .flat_map(|extents| (0..extents.len()).filter_map(|index| small_hole(extents, index)))
        .collect();
    let few = |most: &u64| holes.iter().filter(|bytes| *bytes > most).count() <= SEGMENTS;
    let mut written = HOLES.map(|pages| pages * PAGE).into_iter();
    written.find(few).unwrap_or(SMALL_BYTES)
}

/// How long a hole is that may be written: one between data of its unit.
fn small_hole(extents: &[Extent], index: usize) -> Option<u64> {
    let is_data = |at: Option<&Extent>| at.is_some_and(|at| matches!(at.what, What::Data { .. }));
    let Extent { vaddr, bytes, what } = *extents.get(index)?;
    let small = what == What::Zeros
        && bytes <= SMALL_BYTES
        && vaddr / UNIT == (vaddr + bytes) / UNIT
        && is_data(index.checked_sub(1).and_then(|before| extents.get(before)))
        && is_data(extents.get(index + 1));
    small.then_some(bytes)
}

/// Cuts data where their units end, if those have an order, and finds the holes that are written.
pub(super) fn cut(mapped: &Mapped, scores: &Scores, hole: u64) -> impl Iterator<Item = Piece> {
    let extents = &mapped.extents;
    extents.iter().enumerate().flat_map(move |(index, extent)| {
        let written = small_hole(extents, index).is_some_and(|bytes| bytes <= hole);
        let is_whole = scores.is_empty() || !matches!(extent.what, What::Data { .. });
        let (whole, parts) = if is_whole {
            (Some(*extent), None)
        } else {
            (None, Some(units(*extent)))
        };
        let all = whole.into_iter().chain(parts.into_iter().flatten());
        all.map(move |extent| Piece { extent, written })
    })
}

/// The parts of an extent of data, unit by unit.
fn units(extent: Extent) -> impl Iterator<Item = Extent> {
    let end = extent.vaddr + extent.bytes;
    let mut at = extent.vaddr;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let next = end.min((at / UNIT + 1) * UNIT);
            let what = match extent.what {
                What::Data { page } => What::Data {
                    page: page + (at - extent.vaddr) / PAGE,
                },
                other => other,
            };
            let part = Extent {
                vaddr: at,
                bytes: next - at,
                what,
            };
            at = next;
            part
        })
    })
}
