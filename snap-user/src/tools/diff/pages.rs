//! The pages of a process in two images, compared.

use super::side::Side;
use crate::archive::elsewhere::Place;
use crate::archive::head::PAGE;
use crate::archive::process::Mapping;
use crate::archive::read::layout::{Held, Range};

/// How many pages are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PageCounts {
    /// The same in both images.
    pub same: u64,
    /// Of another content.
    pub changed: u64,
    /// In the later image only.
    pub new: u64,
    /// In the earlier image only.
    pub gone: u64,
}

impl PageCounts {
    /// All together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            same: self.same + other.same,
            changed: self.changed + other.changed,
            new: self.new + other.new,
            gone: self.gone + other.gone,
        }
    }

    /// Whether pages differ.
    #[must_use]
    pub fn differ(self) -> bool {
        self.changed + self.new + self.gone != 0
    }
}

/// Compares the pages of a process, by the mappings of the later image; what is in none of them comes last.
pub(super) fn compare(a: &Side, b: &Side, pid: i32, mappings: &[Mapping]) -> (Vec<PageCounts>, PageCounts) {
    let ranges = |side: &Side| side.ranges.get(&pid).cloned().unwrap_or_default();
    let (left, right) = (ranges(a), ranges(b));
    let mut counts = vec![PageCounts::default(); mappings.len()];
    let mut outside = PageCounts::default();
    for run in (Runs {
        left: &left,
        right: &right,
        at: 0,
    }) {
        let mut at = run.begin;
        while at < run.end {
            let index = mappings.partition_point(|mapping| mapping.end <= at);
            let next = mappings.get(index);
            let inside = next.is_some_and(|mapping| mapping.start <= at);
            let bound = next.map_or(
                u64::MAX,
                |mapping| {
                    if inside { mapping.end } else { mapping.start }
                },
            );
            let end = bound.min(run.end);
            let slot = counts.get_mut(index).filter(|_| inside).unwrap_or(&mut outside);
            *slot = slot.plus(stretch(a, b, pid, &run, at, end));
            at = end;
        }
    }
    (counts, outside)
}

fn stretch(a: &Side, b: &Side, pid: i32, run: &Run, begin: u64, end: u64) -> PageCounts {
    let pages = (end - begin).div_ceil(PAGE);
    let mut counts = PageCounts::default();
    match (run.a, run.b) {
        (Some(_), None) => counts.gone = pages,
        (None, _) => counts.new = pages,
        (Some(left), Some(right)) => {
            if let (Held::Elsewhere(record), true) = (right.held, b.is_child_of(a))
                && record.place == Place::Parent
                && (record.pid_there, record.vaddr_there) == (pid, record.vaddr)
            {
                counts.same = pages;
                return counts;
            }
            let step = usize::try_from(PAGE).unwrap_or(4096);
            for at in (begin..end).step_by(step) {
                let before = a.sum_in(&left, pid, at);
                let after = match right.held {
                    Held::Elsewhere(record) if record.place == Place::Parent && b.is_child_of(a) => {
                        a.sum_at(record.pid_there, record.vaddr_there + (at - record.vaddr))
                    }
                    _ => b.sum_in(&right, pid, at),
                };
                if before.is_some() && before == after {
                    counts.same += 1;
                } else {
                    counts.changed += 1;
                }
            }
        }
    }
    counts
}

/// Addresses over which neither side changes.
#[derive(Debug)]
struct Run {
    begin: u64,
    end: u64,
    a: Option<Range>,
    b: Option<Range>,
}

struct Runs<'a> {
    left: &'a [Range],
    right: &'a [Range],
    at: u64,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let at = self.at;
        for side in [&mut self.left, &mut self.right] {
            while let Some((_, rest)) = side.split_first().filter(|(first, _)| first.end() <= at) {
                *side = rest;
            }
        }
        let (left, right) = (self.left.first().copied(), self.right.first().copied());
        let both = [left, right];
        let begin = both.iter().flatten().map(|range| range.vaddr.max(at)).min()?;
        let covers = |range: &Range| range.vaddr <= begin;
        let end = both
            .iter()
            .flatten()
            .map(|range| if covers(range) { range.end() } else { range.vaddr })
            .min()?;
        self.at = end;
        Some(Run {
            begin,
            end,
            a: left.filter(covers),
            b: right.filter(covers),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;
    use crate::archive::read::layout::{Held, Range};

    #[test]
    fn runs_are_cut_where_either_side_changes() {
        let range = |vaddr, bytes| Range {
            vaddr,
            bytes,
            held: Held::Here,
        };
        let left = [range(10, 10), range(20, 5)];
        let right = [range(5, 3), range(12, 10), range(40, 1)];
        let runs: Vec<_> = Runs {
            left: &left,
            right: &right,
            at: 0,
        }
        .map(|run| (run.begin, run.end, run.a.is_some(), run.b.is_some()))
        .collect();
        assert_eq!(
            runs,
            [
                (5, 8, false, true),
                (10, 12, true, false),
                (12, 20, true, true),
                (20, 22, true, true),
                (22, 25, true, false),
                (40, 41, false, true)
            ]
        );
    }
}
