//! Whether the parts of a core's head fit together, and what they say about each address.

use super::core::CoreHead;
use crate::archive::elsewhere::Elsewhere;
use crate::archive::head::{PAGE, Segment};

/// A stretch of a core's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the core.
    pub offset: u64,
    /// Where in memory.
    pub vaddr: u64,
    /// How long.
    pub bytes: u64,
}

/// What a core has at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The page itself.
    Here,
    /// Where it is.
    Elsewhere(Elsewhere),
}

/// Pages that a core holds, itself or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub vaddr: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Where.
    pub held: Held,
}

impl Range {
    /// Behind its last address.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.vaddr + self.bytes
    }
}

impl CoreHead {
    /// The data, in the order in which they stand in the core.
    #[must_use]
    pub fn extents(&self) -> Vec<Extent> {
        let mut extents: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| segment.file_bytes != 0)
            .map(|segment| Extent {
                offset: segment.offset,
                vaddr: segment.vaddr,
                bytes: segment.file_bytes,
            })
            .collect();
        extents.sort_unstable_by_key(|extent| extent.offset);
        extents
    }

    /// All pages that the core holds, itself or elsewhere, by address.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        let mut elsewhere = self.elsewhere.iter().peekable();
        let mut segments = self
            .segments
            .iter()
            .filter(|segment| segment.file_bytes != 0)
            .peekable();
        std::iter::from_fn(move || {
            let here = segments.peek().map(|segment| segment.vaddr);
            let there = elsewhere.peek().map(|record| record.vaddr);
            if here.is_some_and(|here| there.is_none_or(|there| here < there)) {
                segments.next().map(|segment| Range {
                    vaddr: segment.vaddr,
                    bytes: segment.file_bytes,
                    held: Held::Here,
                })
            } else {
                elsewhere.next().map(|record| Range {
                    vaddr: record.vaddr,
                    bytes: record.bytes,
                    held: Held::Elsewhere(*record),
                })
            }
        })
    }
}

/// Checks a head that is `head_bytes` long.
pub(super) fn check(head: &CoreHead, head_bytes: u64) -> Result<(), &'static str> {
    check_segments(&head.segments)?;
    let mut end = head_bytes;
    for extent in head.extents() {
        if extent.offset < end {
            return Err("data of its segments overlap, or lie in its head");
        }
        let Some(behind) = extent.offset.checked_add(extent.bytes) else {
            return Err("the place of its data overflows");
        };
        if behind > head.bytes {
            return Err("data of its segments lie behind its end");
        }
        end = behind;
    }
    if end
        .checked_next_multiple_of(PAGE)
        .is_some_and(|end| head.bytes > end)
    {
        return Err("it is longer than its segments say");
    }
    check_elsewhere(head)
}

fn check_segments(segments: &[Segment]) -> Result<(), &'static str> {
    let mut end = 0;
    for segment in segments {
        let numbers = [segment.vaddr, segment.memory_bytes, segment.file_bytes];
        let offset = if segment.file_bytes == 0 {
            0
        } else {
            segment.offset
        };
        if numbers.iter().any(|number| number % PAGE != 0) || offset % PAGE != 0 {
            return Err("a segment does not consist of pages");
        }
        if segment.memory_bytes == 0 || segment.file_bytes > segment.memory_bytes {
            return Err("a segment has more data than memory, or no memory");
        }
        if segment.vaddr < end {
            return Err("its segments overlap, or are not sorted by address");
        }
        end = segment
            .vaddr
            .checked_add(segment.memory_bytes)
            .ok_or("a segment ends behind the last address")?;
    }
    Ok(())
}

/// Records lie in memory that has no data in this core, and do not overlap.
fn check_elsewhere(head: &CoreHead) -> Result<(), &'static str> {
    let mut segments = head.segments.iter().peekable();
    let mut last = 0;
    for record in &head.elsewhere {
        let numbers = [record.vaddr, record.bytes, record.vaddr_there];
        if record.bytes == 0 || numbers.iter().any(|number| number % PAGE != 0) {
            return Err("a record of pages that lie elsewhere does not consist of pages");
        }
        if record.pid_there <= 0 {
            return Err("pages lie with a process that cannot be");
        }
        let (Some(end), Some(_)) = (
            record.vaddr.checked_add(record.bytes),
            record.vaddr_there.checked_add(record.bytes),
        ) else {
            return Err("a record of pages that lie elsewhere ends behind the last address");
        };
        if record.vaddr < last {
            return Err("records of pages that lie elsewhere overlap, or are not sorted by address");
        }
        last = end;
        let mut at = record.vaddr;
        while at < end {
            let outside = "pages that lie elsewhere are in no segment, or in this core, too";
            while segments
                .next_if(|segment| segment.vaddr + segment.memory_bytes <= at)
                .is_some()
            {}
            let segment = segments.peek().ok_or(outside)?;
            if segment.vaddr + segment.file_bytes > at {
                return Err(outside);
            }
            at = segment.vaddr + segment.memory_bytes;
        }
    }
    Ok(())
}
