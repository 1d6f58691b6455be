//! Pages that several mappings have: each is written once, into the last core that has it.

use std::collections::BinaryHeap;

/// A run of data pages that a mapping has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Index of the first data page.
    pub page: u64,
    /// How many.
    pub pages: u64,
    /// Where its core stands in the archive.
    pub turn: u32,
    /// The process.
    pub pid: i32,
    /// First address.
    pub vaddr: u64,
}

/// Who writes what several have.
#[derive(Debug, Default)]
pub struct Shares {
    /// Pages with more than one claim, by index, not overlapping; each with the claim that counts.
    shared: Vec<Claim>,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nobody else has it.
    Alone {
        /// How many pages.
        pages: u64,
    },
    /// Several have it, and it is written here, for each address that this process has it at.
    Here {
        /// How many pages.
        pages: u64,
    },
    /// It is written into another core.
    There {
        /// How many pages.
        pages: u64,
        /// The process of that core.
        pid: i32,
        /// The address there.
        vaddr: u64,
    },
}

impl Shares {
    /// Finds out from everybody's claims.
    #[must_use]
    pub fn new(mut claims: Vec<Claim>) -> Self {
        claims.sort_unstable_by_key(|claim| claim.page);
        let mut shared = Vec::new();
        let mut active: BinaryHeap<(u32, u64, usize)> = BinaryHeap::new();
        let mut ends: BinaryHeap<std::cmp::Reverse<u64>> = BinaryHeap::new();
        let mut at = 0;
        let mut next = 0;
        while next < claims.len() || !ends.is_empty() {
            // The next place where somebody's claim begins or ends.
            let begin = claims.get(next).map_or(u64::MAX, |claim| claim.page);
            let end = ends.peek().map_or(u64::MAX, |end| end.0);
            let to = begin.min(end);
            if ends.len() > 1 && to > at {
                while active.peek().is_some_and(|top| claim_end(&claims[top.2]) <= at) {
                    active.pop();
                }
                if let Some(top) = active.peek() {
                    push(&mut shared, part_of(&claims[top.2], at, to));
                }
            }
            at = to;
            while ends.peek().is_some_and(|end| end.0 <= at) {
                ends.pop();
            }
            while let Some(claim) = claims.get(next).filter(|claim| claim.page <= at) {
                active.push((claim.turn, claim.vaddr, next));
                ends.push(std::cmp::Reverse(claim_end(claim)));
                next += 1;
            }
        }
        Self { shared }
    }

    /// Cuts a run where the answer changes.
    pub fn parts(&self, claim: Claim) -> impl Iterator<Item = Part> + '_ {
        let end = claim_end(&claim);
        let first = self
            .shared
            .partition_point(|shared| claim_end(shared) <= claim.page);
        let mut left = self.shared[first..].iter().peekable();
        let mut at = claim.page;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let Some(shared) = left.peek().filter(|shared| shared.page < end) else {
                let pages = end - at;
                at = end;
                return Some(Part::Alone { pages });
            };
            if shared.page > at {
                let pages = shared.page - at;
                at = shared.page;
                return Some(Part::Alone { pages });
            }
            let pages = end.min(claim_end(shared)) - at;
            let part = if shared.turn == claim.turn {
                Part::Here { pages }
            } else {
                Part::There {
                    pages,
                    pid: shared.pid,
                    vaddr: shared.vaddr + (at - shared.page) * super::head::PAGE,
                }
            };
            at += pages;
            if at >= claim_end(shared) {
                left.next();
            }
            Some(part)
        })
    }
}

fn claim_end(claim: &Claim) -> u64 {
    claim.page + claim.pages
}

fn part_of(claim: &Claim, from: u64, to: u64) -> Claim {
    Claim {
        page: from,
        pages: to - from,
        vaddr: claim.vaddr + (from - claim.page) * super::head::PAGE,
        ..*claim
    }
}

/// Appends, or makes the last one longer.
fn push(shared: &mut Vec<Claim>, claim: Claim) {
    if let Some(last) = shared.last_mut()
        && claim_end(last) == claim.page
        && last.turn == claim.turn
        && last.vaddr + last.pages * super::head::PAGE == claim.vaddr
    {
        last.pages += claim.pages;
    } else {
        shared.push(claim);
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Part, Shares};

    fn claim(turn: u32, page: u64, pages: u64, vaddr: u64) -> Claim {
        Claim {
            page,
            pages,
            turn,
            pid: i32::try_from(turn).unwrap() + 100,
            vaddr,
        }
    }

    #[test]
    fn what_one_has_alone_is_alone() {
        let shares = Shares::new(vec![claim(0, 0, 5, 0x1000), claim(1, 5, 5, 0x1000)]);
        assert_eq!(
            shares.parts(claim(1, 5, 5, 0x1000)).collect::<Vec<_>>(),
            [Part::Alone { pages: 5 }]
        );
    }

    #[test]
    fn the_last_one_writes_and_the_others_refer_to_it() {
        let [first, last] = [claim(0, 0, 10, 0x10_0000), claim(1, 4, 3, 0x20_0000)];
        let shares = Shares::new(vec![first, last]);
        let there = Part::There {
            pages: 3,
            pid: 101,
            vaddr: 0x20_0000,
        };
        assert_eq!(
            shares.parts(first).collect::<Vec<_>>(),
            [Part::Alone { pages: 4 }, there, Part::Alone { pages: 3 }]
        );
        assert_eq!(shares.parts(last).collect::<Vec<_>>(), [Part::Here { pages: 3 }]);
    }

    /// Against the obvious way, page by page.
    #[test]
    fn every_page_has_one_writer_which_is_the_last() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..300 {
            let claims: Vec<_> = (0..1 + random(12))
                .map(|number| {
                    let turn = u32::try_from(random(4)).unwrap();
                    // No two of a process are at the same address.
                    claim(turn, random(30), 1 + random(12), number * 0x10_0000)
                })
                .collect();
            let shares = Shares::new(claims.clone());
            for claim in &claims {
                let mut page = claim.page;
                for part in shares.parts(*claim) {
                    let pages = match part {
                        Part::Alone { pages } | Part::Here { pages } | Part::There { pages, .. } => pages,
                    };
                    for at in page..page + pages {
                        let has = |other: &&Claim| other.page <= at && at < other.page + other.pages;
                        let all: Vec<_> = claims.iter().filter(has).collect();
                        let top = all.iter().max_by_key(|claim| (claim.turn, claim.vaddr)).unwrap();
                        match part {
                            Part::Alone { .. } => assert_eq!(all.len(), 1),
                            Part::Here { .. } => assert!(all.len() > 1 && top.turn == claim.turn),
                            Part::There { pid, vaddr, .. } => {
                                assert_eq!((top.turn, top.pid), (u32::try_from(pid - 100).unwrap(), pid));
                                assert_eq!(vaddr + (at - page) * 4096, top.vaddr + (at - top.page) * 4096);
                            }
                        }
                    }
                    page += pages;
                }
                assert_eq!(page, claim.page + claim.pages);
            }
        }
    }
}
