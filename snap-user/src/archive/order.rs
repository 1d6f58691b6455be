//! Which pages go first: those that are likely to be written next, for whoever writes to them before they are let go has to
//! copy them. Who has written since the last snapshot, or in the moments since this one, will write again, and near by.

use std::io;

use snap_common::abi::{RUN_UNCHANGED, RUN_UNREADABLE, Stretch};

use super::head::PAGE;
use super::layout::{Scores, UNIT};
use crate::device::ImageSource;
use crate::image::Image;

/// The order of streaming.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Those first that are likely to be written next
    #[default]
    Likely,
    /// By address
    Address,
}

/// What is known of the pages of one unit.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    pages: u64,
    /// Written since the last snapshot; 0 where that is not known.
    changed: u64,
    /// Written since this one.
    broken: u64,
}

impl Known {
    /// How likely the next write to it has to copy, up to a million: how much of it is still shared, times how much was written.
    fn score(self) -> u64 {
        let left = self.pages - self.broken.min(self.pages);
        let written = (self.changed + self.broken).min(2 * self.pages);
        if self.pages == 0 {
            return 0;
        }
        left * written * 500_000 / (self.pages * self.pages)
    }
}

/// Looks at the pages of every process.
///
/// # Errors
///
/// When the module does not tell.
pub fn scores<S: ImageSource + ?Sized>(image: &Image, source: &S) -> io::Result<Vec<Scores>> {
    image
        .processes
        .iter()
        .map(|process| {
            let compared = process.parent_id != 0;
            let mut stretches = Vec::new();
            let mut units = Vec::new();
            for run in image.vmas_of(process).iter().flat_map(|vma| image.runs_of(vma)) {
                if run.flags & RUN_UNREADABLE != 0 {
                    continue;
                }
                let changed = compared && run.flags & RUN_UNCHANGED == 0;
                let end = run.vaddr + u64::from(run.pages) * PAGE;
                let mut at = run.vaddr;
                while at < end {
                    let next = end.min((at / UNIT + 1) * UNIT);
                    stretches.push(Stretch {
                        page: run.page + (at - run.vaddr) / PAGE,
                        pages: u32::try_from((next - at) / PAGE).unwrap_or(u32::MAX),
                        sole: 0,
                    });
                    units.push((at / UNIT, changed));
                    at = next;
                }
            }
            source.look(&mut stretches)?;
            let mut known = std::collections::HashMap::<u64, Known>::new();
            for ((unit, changed), stretch) in units.into_iter().zip(&stretches) {
                let unit = known.entry(unit).or_default();
                unit.pages += u64::from(stretch.pages);
                unit.broken += u64::from(stretch.sole);
                unit.changed += if changed { u64::from(stretch.pages) } else { 0 };
            }
            Ok(known
                .into_iter()
                .map(|(unit, known)| (unit, known.score()))
                .filter(|(_, score)| *score != 0)
                .collect())
        })
        .collect()
}

/// The turns of the cores: first the process with the likeliest unit.
#[must_use]
pub fn turns(scores: &[Scores]) -> Vec<u32> {
    let mut order: Vec<_> = (0..scores.len()).collect();
    order.sort_by_key(|process| std::cmp::Reverse(scores[*process].values().max().copied().unwrap_or(0)));
    let mut turns = vec![0; scores.len()];
    for (turn, process) in order.into_iter().enumerate() {
        turns[process] = u32::try_from(turn).unwrap_or(u32::MAX);
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::{Known, turns};
    use crate::archive::layout::Scores;

    fn score(pages: u64, changed: u64, broken: u64) -> u64 {
        Known {
            pages,
            changed,
            broken,
        }
        .score()
    }

    #[test]
    fn what_was_written_comes_before_what_was_not() {
        assert!(score(512, 512, 0) > score(512, 100, 0));
        assert!(score(512, 0, 100) > score(512, 0, 10));
        assert_eq!(score(512, 0, 0), 0, "nothing is known of it");
        assert_eq!(score(512, 512, 512), 0, "there is nothing left to save");
        assert!(score(1, 1, 0) <= 1_000_000);
        assert_eq!(score(0, 0, 0), 0);
    }

    #[test]
    fn the_likeliest_process_comes_first_and_the_others_keep_their_order() {
        let scores = [
            Scores::new(),
            Scores::from([(1, 5)]),
            Scores::from([(2, 9), (3, 1)]),
            Scores::new(),
        ];
        assert_eq!(turns(&scores), [2, 1, 0, 3]);
    }
}
