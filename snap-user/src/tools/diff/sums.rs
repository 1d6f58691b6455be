//! The sums of the pages of an image.

use std::collections::BTreeMap;

use crate::archive::head::PAGE;

/// The first half of the BLAKE3 of a page.
pub(super) type Sum = [u8; 16];

/// Those of stretches of pages, by process and first page. A stretch is what came at once: nothing is kept for pages that did not come.
#[derive(Debug, Default)]
pub(super) struct Sums(BTreeMap<(i32, u64), Box<[Sum]>>);

impl Sums {
    /// Takes pages, each of which comes once.
    pub fn add(&mut self, pid: i32, vaddr: u64, bytes: &[u8]) {
        let pages = bytes.chunks(usize::try_from(PAGE).unwrap_or(4096));
        let sums = pages.map(|page| {
            let mut sum = Sum::default();
            sum.copy_from_slice(&blake3::hash(page).as_bytes()[..16]);
            sum
        });
        self.0.insert((pid, vaddr / PAGE), sums.collect());
    }

    /// The sum of the page at `vaddr` of a process.
    pub fn get(&self, pid: i32, vaddr: u64) -> Option<Sum> {
        let page = vaddr / PAGE;
        let ((_, first), sums) = self.0.range((pid, 0)..=(pid, page)).next_back()?;
        sums.get(usize::try_from(page - first).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Sums;

    const PAGE: u64 = 4096;

    #[test]
    fn pages_far_from_each_other_take_no_more_than_others() {
        let mut sums = Sums::default();
        for stretch in 0..100 {
            sums.add(1, stretch * 512 * PAGE, &[7; 4096]);
        }
        let bytes: usize = sums.0.values().map(|sums| size_of_val(&**sums)).sum();
        assert_eq!(bytes, 100 * 16);
    }

    #[test]
    fn pages_that_did_not_come_have_no_sum() {
        let mut sums = Sums::default();
        sums.add(2, 10 * PAGE, &[[1; 4096], [2; 4096], [1; 4096]].concat());
        sums.add(2, 20 * PAGE, &[2; 4096]);
        let of = |pid, page| sums.get(pid, page * PAGE);
        assert!(of(2, 10).is_some());
        assert_eq!(of(2, 10), of(2, 12));
        assert_eq!(of(2, 11), of(2, 20));
        assert_ne!(of(2, 10), of(2, 11));
        for (pid, page) in [(2, 9), (2, 13), (2, 21), (1, 10), (3, 10)] {
            assert_eq!(of(pid, page), None, "page {page} of {pid}");
        }
    }
}
