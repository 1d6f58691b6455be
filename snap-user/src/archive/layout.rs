//! The layout of a core: which pages are in it, in which order, and what its program headers say.

mod last;
mod pieces;

use std::cmp::Reverse;
use std::collections::HashMap;

use self::last::keep_until_the_last;
use self::pieces::{Piece, cut, written_holes};
use super::elsewhere::{Elsewhere, Place};
use super::head::{PAGE, Segment};
use super::manifest::Pages;

/// What is streamed together, and let go together: what one page table maps, or one huge page.
pub const UNIT: u64 = 2 << 20;

/// A stretch of a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First address.
    pub vaddr: u64,
    /// How long it is.
    pub bytes: u64,
    /// Where its content is.
    pub what: What,
}

/// Where the content of a stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// In this core, from this data page of the image on.
    Data {
        /// Its index.
        page: u64,
    },
    /// In this core: a copy of a file's pages, by its number.
    Copied(usize),
    /// Never touched: zeros.
    Zeros,
    /// Not in the archive: a file's, or a device's.
    Absent,
    /// In no segment, for it cannot be read: debuggers are to say so, and not to show zeros.
    Unreadable,
    /// In another core.
    Elsewhere {
        /// The first address there.
        vaddr: u64,
        /// The process whose core has it.
        pid: i32,
        /// In which archive.
        place: Place,
    },
}

/// What becomes of a page when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is let go.
    Release,
    /// It is written once more.
    Keep,
}

/// A mapping: its permissions as `PF_*`, and its extents by address.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// `PF_R`, `PF_W`, `PF_X`.
    pub flags: u32,
    /// By address, without gaps.
    pub extents: Vec<Extent>,
}

/// A stretch of a core's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Data pages of the image.
    Pages {
        /// Index of the first.
        page: u64,
        /// How many.
        pages: u64,
        /// What becomes of them.
        after: After,
    },
    /// A copy of a file's pages, by its number.
    Copied(usize),
    /// A small hole.
    Zeros {
        /// How long.
        bytes: u64,
    },
}

/// How a core is laid out. Offsets of its segments count from the begin of the data.
#[derive(Debug, Default)]
pub struct Layout {
    /// By address.
    pub segments: Vec<Segment>,
    /// In the order of streaming.
    pub parts: Vec<Part>,
    /// By address.
    pub elsewhere: Vec<Elsewhere>,
    /// Where the pages are.
    pub pages: Pages,
    /// Bytes of the data.
    pub data_bytes: u64,
}

/// How soon each unit is to be streamed: those with more come first. What is not in it has 0.
pub type Scores = HashMap<u64, u64>;

impl Layout {
    /// Lays a core out.
    #[must_use]
    pub fn new(mappings: &[Mapped], scores: &Scores) -> Self {
        let mut layout = Self::default();
        let hole = written_holes(mappings);
        let pieces = |mapped| cut(mapped, scores, hole);
        let mut offsets = layout
            .stream(mappings.iter().flat_map(pieces), scores)
            .into_iter();
        for mapped in mappings {
            let first = layout.segments.len();
            for piece in pieces(mapped) {
                let offset = if piece.is_in_the_file() {
                    offsets.next()
                } else {
                    None
                };
                layout.place(first, mapped.flags, &piece, offset.unwrap_or(0));
            }
        }
        layout.parts = keep_until_the_last(layout.parts);
        layout
    }

    /// Its parts, and nothing else of it.
    #[must_use]
    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// Puts the data into their order. Returns where each piece is that is in the file, by address.
    fn stream(&mut self, pieces: impl Iterator<Item = Piece>, scores: &Scores) -> Vec<u64> {
        let data = pieces.filter(Piece::is_in_the_file);
        let mut data: Vec<_> = data.map(|piece| (piece.extent, 0)).collect();
        if !scores.is_empty() {
            // By address where nothing speaks for another order.
            data.sort_unstable_by_key(|(extent, _)| {
                let score = scores.get(&(extent.vaddr / UNIT)).copied().unwrap_or(0);
                (Reverse(score), extent.vaddr)
            });
        }
        for (extent, offset) in &mut data {
            *offset = self.data_bytes;
            self.push(extent);
        }
        data.sort_unstable_by_key(|(extent, _)| extent.vaddr);
        let mut offsets: Vec<_> = data.into_iter().map(|(_, offset)| offset).collect();
        offsets.shrink_to_fit(); // it was collected in place
        offsets
    }

    fn push(&mut self, extent: &Extent) {
        let bytes = extent.bytes;
        self.data_bytes += bytes;
        let page = match extent.what {
            What::Data { page } => page,
            What::Copied(index) => {
                self.pages.here += bytes / PAGE;
                self.parts.push(Part::Copied(index));
                return;
            }
            _ => {
                self.parts.push(Part::Zeros { bytes });
                return;
            }
        };
        self.pages.here += bytes / PAGE;
        if let Some(Part::Pages {
            page: first, pages, ..
        }) = self.parts.last_mut()
            && *first + *pages == page
        {
            *pages += bytes / PAGE;
        } else {
            self.parts.push(Part::Pages {
                page,
                pages: bytes / PAGE,
                after: After::Release,
            });
        }
    }

    /// Adds a piece to the segments, of which those from `first` on are its mapping's.
    fn place(&mut self, first: usize, flags: u32, piece: &Piece, offset: u64) {
        let Extent { vaddr, bytes, what } = piece.extent;
        if let What::Elsewhere {
            vaddr: vaddr_there,
            pid,
            place,
        } = what
        {
            let pages = match place {
                Place::SameArchive => &mut self.pages.elsewhere,
                Place::Parent => &mut self.pages.parent,
            };
            *pages += bytes / PAGE;
            self.refer(Elsewhere {
                vaddr,
                bytes,
                vaddr_there,
                pid_there: pid,
                place,
            });
        }
        let last = self.segments[first..]
            .last_mut()
            .filter(|last| last.vaddr + last.memory_bytes == vaddr);
        match (what, last) {
            (What::Unreadable, _) => {}
            (What::Data { .. } | What::Copied(_) | What::Zeros, Some(last))
                if piece.is_in_the_file()
                    && last.file_bytes == last.memory_bytes
                    && last.offset + last.file_bytes == offset =>
            {
                last.file_bytes += bytes;
                last.memory_bytes += bytes;
            }
            // Behind the data of a segment are zeros.
            (What::Zeros, Some(last)) if !piece.is_in_the_file() => last.memory_bytes += bytes,
            (What::Absent | What::Elsewhere { .. }, Some(last)) if last.file_bytes == 0 => {
                last.memory_bytes += bytes;
            }
            _ => self.segments.push(Segment {
                vaddr,
                memory_bytes: bytes,
                file_bytes: if piece.is_in_the_file() { bytes } else { 0 },
                offset: if piece.is_in_the_file() { offset } else { 0 },
                flags,
            }),
        }
    }

    fn refer(&mut self, elsewhere: Elsewhere) {
        if let Some(last) = self.elsewhere.last_mut()
            && last.vaddr + last.bytes == elsewhere.vaddr
            && last.vaddr_there + last.bytes == elsewhere.vaddr_there
            && (last.pid_there, last.place) == (elsewhere.pid_there, elsewhere.place)
        {
            last.bytes += elsewhere.bytes;
        } else {
            self.elsewhere.push(elsewhere);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{After, Extent, Layout, Mapped, Part, Scores, UNIT, What};
    use crate::archive::elsewhere::Place;
    use crate::archive::head::PAGE;

    fn data(page: u64) -> What {
        What::Data { page }
    }

    fn mapped(start: u64, parts: &[(u64, What)]) -> Mapped {
        let mut vaddr = start;
        let extents = parts.iter().map(|(pages, what)| {
            let extent = Extent {
                vaddr,
                bytes: pages * PAGE,
                what: *what,
            };
            vaddr += extent.bytes;
            extent
        });
        Mapped {
            flags: 6,
            extents: extents.collect(),
        }
    }

    /// Start, pages in memory, pages in the file, offset in pages.
    fn segments(layout: &Layout) -> Vec<(u64, u64, u64, u64)> {
        let all = layout.segments.iter();
        all.map(|segment| {
            let pages = |bytes: u64| bytes / PAGE;
            (
                pages(segment.vaddr),
                pages(segment.memory_bytes),
                pages(segment.file_bytes),
                pages(segment.offset),
            )
        })
        .collect()
    }

    #[test]
    fn holes_stay_holes_and_data_lie_by_address() {
        let mappings = [
            mapped(
                0x10_0000,
                &[(2, data(0)), (3, What::Zeros), (1, data(2)), (4, What::Zeros)],
            ),
            mapped(0x20_0000, &[(4, What::Absent), (1, data(3)), (2, What::Absent)]),
        ];
        let layout = Layout::new(&mappings, &Scores::new());
        assert_eq!(
            segments(&layout),
            [
                (0x100, 5, 2, 0),
                (0x105, 5, 1, 2),
                (0x200, 4, 0, 0),
                (0x204, 1, 1, 3),
                (0x205, 2, 0, 0)
            ]
        );
        let one = Part::Pages {
            page: 0,
            pages: 4,
            after: After::Release,
        };
        assert_eq!(layout.parts, [one], "they follow each other in the image, too");
        assert_eq!(layout.data_bytes, 4 * PAGE);
        assert_eq!(layout.pages.here, 4);
    }

    #[test]
    fn units_with_a_higher_score_come_first() {
        let pages = 3 * UNIT / PAGE;
        let mappings = [mapped(0x4000_0000, &[(pages, data(0))])];
        let scores = Scores::from([(0x4000_0000 / UNIT + 1, 9)]);
        let layout = Layout::new(&mappings, &scores);
        assert_eq!(
            segments(&layout),
            [
                (0x40000, 512, 512, 512),
                (0x40200, 512, 512, 0),
                (0x40400, 512, 512, 1024)
            ]
        );
        let firsts: Vec<_> = layout
            .parts
            .iter()
            .map(|part| match part {
                Part::Pages { page, pages, .. } => (*page, *pages),
                other => panic!("there is nothing but pages: {other:?}"),
            })
            .collect();
        assert_eq!(firsts, [(512, 512), (0, 512), (1024, 512)]);
    }

    #[test]
    fn what_a_process_has_twice_is_let_go_with_the_last() {
        let mappings = [
            mapped(0x10_0000, &[(4, data(0))]),
            mapped(0x20_0000, &[(4, data(2))]),
        ];
        let layout = Layout::new(&mappings, &Scores::new());
        let parts = [
            (0, After::Release),
            (2, After::Keep),
            (2, After::Release),
            (4, After::Release),
        ];
        let parts = parts.map(|(page, after)| Part::Pages {
            page,
            pages: 2,
            after,
        });
        assert_eq!(layout.parts, parts);
        assert_eq!(layout.data_bytes, 8 * PAGE);
    }

    #[test]
    fn what_lies_elsewhere_is_a_hole_that_is_noted() {
        let there = |vaddr| What::Elsewhere {
            vaddr: vaddr + 0x1000_0000,
            pid: 7,
            place: Place::Parent,
        };
        let start = 0x10_0000;
        let mappings = [mapped(
            start,
            &[
                (1, data(0)),
                (1, there(start + PAGE)),
                (1, there(start + 2 * PAGE)),
                (1, What::Unreadable),
                (1, data(1)),
            ],
        )];
        let layout = Layout::new(&mappings, &Scores::new());
        assert_eq!(
            segments(&layout),
            [(0x100, 1, 1, 0), (0x101, 2, 0, 0), (0x104, 1, 1, 1)]
        );
        assert_eq!(layout.elsewhere.len(), 1);
        assert_eq!(layout.elsewhere[0].bytes, 2 * PAGE);
        assert_eq!((layout.pages.here, layout.pages.parent), (2, 2));
    }

    #[test]
    fn with_very_many_holes_the_small_ones_are_written() {
        let parts: Vec<_> = (0..10_000)
            .flat_map(|page| [(1, data(page)), (1, What::Zeros)])
            .collect();
        let layout = Layout::new(&[mapped(0x4000_0000, &parts)], &Scores::new());
        assert!(layout.segments.len() < 8192, "{}", layout.segments.len());
        assert_eq!(layout.pages.here, 10_000);
        assert!(layout.data_bytes < 20_000 * PAGE && layout.data_bytes > 19_000 * PAGE);
    }

    #[test]
    fn holes_are_not_written_where_something_else_makes_the_segments_many() {
        let units = 9000;
        let unit = UNIT / PAGE;
        let hole = [
            (unit * units, data(0)),
            (1, data(unit * units)),
            (1, What::Zeros),
            (1, data(unit * units + 1)),
        ];
        let ordered = (0..units).map(|at| (0x4000_0000 / UNIT + at, at)).collect();
        let layout = Layout::new(&[mapped(0x4000_0000, &hole)], &ordered);
        assert!(layout.segments.len() > 9000, "{}", layout.segments.len());
        assert_eq!(layout.data_bytes, (unit * units + 2) * PAGE);

        let apart: Vec<_> = (0..9000)
            .map(|at| mapped(0x4000_0000 + at * UNIT, &hole[1..]))
            .collect();
        let layout = Layout::new(&apart[..8000], &Scores::new());
        assert_eq!(layout.data_bytes, 16_000 * PAGE);
        let layout = Layout::new(&apart, &Scores::new());
        assert_eq!(
            layout.data_bytes,
            27_000 * PAGE,
            "as many holes as that are too many"
        );
    }

    #[test]
    fn extents_are_small_for_there_may_be_very_many() {
        assert_eq!(size_of::<Extent>(), 32);
    }
}
