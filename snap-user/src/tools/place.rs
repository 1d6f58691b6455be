//! The layout of a core whose pages are brought together: in the order of addresses.

use crate::archive::head::{Segment, head_bytes};

/// Where a stretch of memory lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// First address.
    pub vaddr: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Where in the file.
    pub offset: u64,
}

/// The layout of a core.
#[derive(Debug, Default)]
pub struct Layout {
    /// Its segments.
    pub segments: Vec<Segment>,
    /// Its data, by address.
    pub placed: Vec<Placed>,
    /// Its size.
    pub bytes: u64,
}

/// Lays out a core that has `data` (address and bytes, by address) of the memory of `segments`, and so many bytes of notes. What it has not
/// is in segments of its own, as debuggers look for those in files.
pub fn lay_out(segments: &[Segment], data: impl IntoIterator<Item = (u64, u64)>, notes: usize) -> Layout {
    let mut data = data.into_iter().peekable();
    let mut layout = Layout::default();
    for segment in segments {
        let end = segment.vaddr + segment.memory_bytes;
        let mut at = segment.vaddr;
        let first = layout.segments.len();
        while at < end {
            let (here, bytes) = data.peek().copied().unwrap_or((u64::MAX, 0));
            let (from, to) = (here.max(at), here.saturating_add(bytes).min(end));
            if from >= to && here < end && bytes != 0 {
                data.next(); // it lies before, in the segment that we come from
                continue;
            }
            if from >= end || bytes == 0 {
                layout.segments.push(hole(segment, at, end));
                break;
            }
            if from > at {
                layout.segments.push(hole(segment, at, from));
            }
            let count = layout.segments.len();
            match layout.segments.last_mut() {
                Some(last)
                    if count > first && last.file_bytes != 0 && last.vaddr + last.memory_bytes == from =>
                {
                    last.file_bytes += to - from;
                    last.memory_bytes += to - from;
                }
                _ => layout.segments.push(Segment {
                    file_bytes: to - from,
                    ..hole(segment, from, to)
                }),
            }
            if here + bytes <= end {
                data.next();
            }
            at = to;
        }
    }
    let mut offset = head_bytes(layout.segments.len(), notes as u64);
    for segment in layout
        .segments
        .iter_mut()
        .filter(|segment| segment.file_bytes != 0)
    {
        segment.offset = offset;
        layout.placed.push(Placed {
            vaddr: segment.vaddr,
            bytes: segment.file_bytes,
            offset,
        });
        offset += segment.file_bytes;
    }
    layout.bytes = offset;
    layout
}

fn hole(segment: &Segment, from: u64, to: u64) -> Segment {
    Segment {
        vaddr: from,
        memory_bytes: to - from,
        file_bytes: 0,
        offset: 0,
        flags: segment.flags,
    }
}

/// Where the stretch lies that begins at `vaddr`, and how much of `bytes` follows there without a break.
pub fn find(placed: &[Placed], vaddr: u64, bytes: u64) -> Option<(u64, u64)> {
    let index = placed
        .partition_point(|part| part.vaddr <= vaddr)
        .checked_sub(1)?;
    let part = placed.get(index)?;
    let into = vaddr - part.vaddr;
    (into < part.bytes).then(|| (part.offset + into, bytes.min(part.bytes - into)))
}

#[cfg(test)]
mod tests {
    use super::{find, lay_out};
    use crate::archive::head::Segment;

    const PAGE: u64 = 4096;

    fn segment(first: u64, pages: u64, flags: u32) -> Segment {
        Segment {
            vaddr: first * PAGE,
            memory_bytes: pages * PAGE,
            flags,
            ..Segment::default()
        }
    }

    fn laid(segments: &[Segment], data: &[(u64, u64)]) -> Vec<(u64, u64, u64, u32)> {
        let data = data.iter().map(|(first, pages)| (first * PAGE, pages * PAGE));
        let layout = lay_out(segments, data, 0);
        let mut offset = PAGE;
        for segment in layout.segments.iter().filter(|segment| segment.file_bytes != 0) {
            assert_eq!(segment.offset, offset);
            offset += segment.file_bytes;
        }
        assert_eq!(layout.bytes, offset);
        layout
            .segments
            .iter()
            .map(|one| {
                (
                    one.vaddr / PAGE,
                    one.memory_bytes / PAGE,
                    one.file_bytes / PAGE,
                    one.flags,
                )
            })
            .collect()
    }

    #[test]
    fn data_and_holes_become_segments_by_address() {
        let segments = [segment(10, 10, 6), segment(20, 5, 4), segment(40, 2, 6)];
        assert_eq!(
            laid(&segments, &[]),
            [(10, 10, 0, 6), (20, 5, 0, 4), (40, 2, 0, 6)]
        );
        assert_eq!(
            laid(&segments, &[(10, 1), (11, 2), (15, 5), (20, 1), (24, 1), (41, 1)]),
            [
                (10, 3, 3, 6),
                (13, 2, 0, 6),
                (15, 5, 5, 6),
                (20, 1, 1, 4),
                (21, 3, 0, 4),
                (24, 1, 1, 4),
                (40, 1, 0, 6),
                (41, 1, 1, 6)
            ]
        );
    }

    #[test]
    fn data_across_segments_are_cut() {
        let segments = [segment(10, 2, 6), segment(12, 2, 4), segment(14, 1, 6)];
        assert_eq!(
            laid(&segments, &[(11, 4)]),
            [(10, 1, 0, 6), (11, 1, 1, 6), (12, 2, 2, 4), (14, 1, 1, 6)]
        );
    }

    #[test]
    fn addresses_are_found() {
        let layout = lay_out(
            &[segment(10, 10, 6)],
            [(10 * PAGE, PAGE), (15 * PAGE, 2 * PAGE)],
            0,
        );
        assert_eq!(find(&layout.placed, 10 * PAGE, 9 * PAGE), Some((PAGE, PAGE)));
        assert_eq!(find(&layout.placed, 16 * PAGE, PAGE), Some((3 * PAGE, PAGE)));
        for page in [9, 11, 14, 17] {
            assert_eq!(find(&layout.placed, page * PAGE, PAGE), None);
        }
    }
}
