//! What is still to come, and where it goes.

use std::collections::BTreeMap;

/// How far a reference may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The core has the page itself, or knows where it is.
    Any,
    /// The core has the page itself.
    Last,
}

/// Whether pages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// They are.
    Yes,
    /// They are not; but they have to be where they are said to be.
    No,
}

/// A stretch of a core that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// First address there.
    pub there: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The process that it belongs to.
    pub pid: i32,
    /// First address in that process.
    pub vaddr: u64,
    /// How it may be found.
    pub hop: Hop,
    /// Whether its pages are handed on.
    pub wanted: Wanted,
}

impl Need {
    /// Behind the last address there.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.there + self.bytes
    }

    /// The part from `begin` to `end`, which lie in it.
    #[must_use]
    pub fn part(&self, begin: u64, end: u64) -> Self {
        Self {
            there: begin,
            bytes: end - begin,
            vaddr: self.vaddr + (begin - self.there),
            ..*self
        }
    }
}

/// The needs of one archive, by the process in whose core they are.
pub type Needs = BTreeMap<i32, Vec<Need>>;

/// Needs of one core, found by address: an interval tree that lies in a sorted table.
#[derive(Debug)]
pub struct Found {
    needs: Vec<Need>,
    /// For each need that is the middle of a stretch of the table: the last end in that stretch.
    ends: Vec<u64>,
}

impl Found {
    /// Makes them findable.
    #[must_use]
    pub fn new(mut needs: Vec<Need>) -> Self {
        needs.sort_unstable_by_key(|need| (need.there, need.bytes));
        let mut ends = vec![0; needs.len()];
        fill_ends(&needs, &mut ends);
        Self { needs, ends }
    }

    /// Calls `visit` with each need that overlaps the addresses from `begin` to `end`.
    pub fn overlapping<E>(
        &self,
        begin: u64,
        end: u64,
        visit: &mut impl FnMut(&Need) -> Result<(), E>,
    ) -> Result<(), E> {
        search(&self.needs, &self.ends, begin, end, visit)
    }
}

fn fill_ends(needs: &[Need], ends: &mut [u64]) -> u64 {
    let middle = needs.len() / 2;
    let Some(need) = needs.get(middle) else { return 0 };
    let left = fill_ends(&needs[..middle], &mut ends[..middle]);
    let right = fill_ends(&needs[middle + 1..], &mut ends[middle + 1..]);
    let last = need.end().max(left).max(right);
    ends[middle] = last;
    last
}

fn search<E>(
    needs: &[Need],
    ends: &[u64],
    begin: u64,
    end: u64,
    visit: &mut impl FnMut(&Need) -> Result<(), E>,
) -> Result<(), E> {
    let middle = needs.len() / 2;
    let Some(need) = needs.get(middle) else {
        return Ok(());
    };
    if ends[middle] <= begin {
        return Ok(());
    }
    search(&needs[..middle], &ends[..middle], begin, end, visit)?;
    if need.there >= end {
        return Ok(());
    }
    if need.end() > begin {
        visit(need)?;
    }
    search(&needs[middle + 1..], &ends[middle + 1..], begin, end, visit)
}

#[cfg(test)]
mod tests {
    use super::{Found, Hop, Need, Wanted};

    #[test]
    fn all_that_overlap_are_found() {
        let mut seed = 1_u64;
        let mut random = |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for count in 0..40 {
            let needs: Vec<_> = (0..count)
                .map(|index| Need {
                    there: random(100),
                    bytes: 1 + random(30),
                    pid: index,
                    vaddr: 0,
                    hop: Hop::Any,
                    wanted: Wanted::Yes,
                })
                .collect();
            let found = Found::new(needs.clone());
            for begin in 0..130 {
                let end = begin + 1 + random(10);
                let mut seen = Vec::new();
                let visited: Result<(), ()> = found.overlapping(begin, end, &mut |need| {
                    seen.push(need.pid);
                    Ok(())
                });
                assert!(visited.is_ok());
                seen.sort_unstable();
                let wanted: Vec<_> = needs
                    .iter()
                    .filter(|need| need.there < end && need.end() > begin)
                    .map(|need| need.pid)
                    .collect();
                assert_eq!(seen, wanted);
            }
        }
    }
}
