//! Room on a store: what is free, and who gets how much of it.

use crate::disk::record::{Extent, full_store_sectors};

/// Slices begin and end at whole MiB.
pub const ALIGN: u64 = 2048;

/// One origin that wants a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its size.
    pub sectors: u64,
    /// What will be copied at once.
    pub chunk_sectors: u32,
}

/// What an origin gets of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Where.
    pub extents: Vec<Extent>,
    /// How many sectors of the origin may change before it overflows. `None`: all of them, it cannot.
    pub overflows_after: Option<u64>,
}

pub(super) fn gaps(used: &[Extent], sectors: u64) -> Vec<Extent> {
    let mut gaps = Vec::new();
    let mut start = ALIGN; // the header
    let end = Extent {
        start: sectors - sectors % ALIGN,
        sectors: 0,
    };
    for extent in used.iter().chain([&end]) {
        let stop = extent.start - extent.start % ALIGN;
        if stop > start {
            gaps.push(Extent {
                start,
                sectors: stop - start,
            });
        }
        start = start.max(extent.end().next_multiple_of(ALIGN));
    }
    gaps
}

/// Takes a piece out of the gaps: the first gap that has it whole, else the first ones that have it together.
pub(super) fn take(free: &mut Vec<Extent>, sectors: u64) -> Option<Vec<Extent>> {
    let mut wanted = sectors.max(1).next_multiple_of(ALIGN);
    let mut taken = Vec::new();
    let first = free.iter().position(|gap| gap.sectors >= wanted).unwrap_or(0);
    for gap in free.iter_mut().skip(first) {
        let piece = gap.sectors.min(wanted);
        taken.push(Extent {
            start: gap.start,
            sectors: piece,
        });
        gap.start += piece;
        gap.sectors -= piece;
        wanted -= piece;
        if wanted == 0 {
            free.retain(|gap| gap.sectors != 0);
            return Some(taken);
        }
    }
    None
}

/// What each origin gets of that much room. `None`: it is not a MiB for each.
pub(super) fn sizes(origins: &[Origin], room: u64) -> Option<Vec<u64>> {
    let full: Vec<_> = origins
        .iter()
        .map(|origin| full_store_sectors(origin.sectors, origin.chunk_sectors).next_multiple_of(ALIGN))
        .collect();
    let total: u64 = full.iter().sum();
    if total <= room {
        return Some(full);
    }
    let share = |size: &u64| {
        let part = u128::from(*size) * u128::from(room) / u128::from(total.max(1));
        let part = u64::try_from(part).unwrap_or(room);
        part - part % ALIGN
    };
    let shares: Vec<_> = full.iter().map(share).collect();
    shares.iter().all(|share| *share > 0).then_some(shares)
}
