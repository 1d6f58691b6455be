//! What is written several times, and let go with the last.

use super::{After, Part};
use crate::archive::share::{self, Claim, Shares};

/// What a process has at several addresses is written as often, and let go with the last of them.
pub(super) fn keep_until_the_last(parts: Vec<Part>) -> Vec<Part> {
    if all_differ(&parts) {
        return parts;
    }
    let claims: Vec<_> = parts.iter().zip(0..).filter_map(claim).collect();
    let shares = Shares::new(claims);
    let mut cut = Vec::with_capacity(parts.len());
    for (part, turn) in parts.iter().zip(0..) {
        let Some(claim) = claim((part, turn)) else {
            cut.push(*part);
            continue;
        };
        let mut page = claim.page;
        for part in shares.parts(claim) {
            let (pages, after) = match part {
                share::Part::Alone { pages } | share::Part::Here { pages } => (pages, After::Release),
                share::Part::There { pages, .. } => (pages, After::Keep),
            };
            cut.push(Part::Pages { page, pages, after });
            page += pages;
        }
    }
    cut
}

/// Is each page in one part alone? So it is nearly always, and tells itself with less memory.
fn all_differ(parts: &[Part]) -> bool {
    let pages = parts.iter().filter_map(|part| match *part {
        Part::Pages { page, pages, .. } => Some((page, page + pages)),
        Part::Copied(_) | Part::Zeros { .. } => None,
    });
    let mut ranges: Vec<_> = pages.collect();
    ranges.sort_unstable();
    ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0)
}

/// The pages of a part, as if each part were a core: the last one counts.
fn claim((part, turn): (&Part, u32)) -> Option<Claim> {
    match *part {
        Part::Pages { page, pages, .. } => Some(Claim {
            page,
            pages,
            turn,
            pid: 0,
            vaddr: 0,
        }),
        Part::Copied(_) | Part::Zeros { .. } => None,
    }
}
