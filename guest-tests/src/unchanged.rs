//! What an image says is unchanged must be the same in the snapshot before it.

use std::collections::HashMap;

use snap_common::abi;

use crate::device::Snapshot;
use crate::image::Image;

/// What two snapshots in a row have in common.
#[derive(Debug, Default)]
pub struct Compared {
    /// Pages that the second says are unchanged.
    pub unchanged: u64,
    /// Pages that it has in all.
    pub pages: u64,
    /// Addresses of pages that it says are unchanged, and that differ or are not in the first.
    pub wrong: Vec<u64>,
}

/// Compares the memory of a process in two snapshots.
///
/// # Panics
///
/// When an image cannot be read.
#[must_use]
pub fn compare(parent: &Snapshot, child: &Snapshot, pid: i32) -> Compared {
    let (before, after) = (Image::open(&parent.file), Image::open(&child.file));
    let old = pages(&before, pid, |_| true);
    let mut compared = Compared {
        pages: pages(&after, pid, |_| true).len() as u64,
        ..Compared::default()
    };
    for (address, page) in pages(&after, pid, |flags| flags & abi::RUN_UNCHANGED != 0) {
        compared.unchanged += 1;
        let same = old
            .get(&address)
            .is_some_and(|old| before.page(*old) == after.page(page));
        if !same {
            compared.wrong.push(address);
        }
    }
    compared
}

/// The data pages of a process by address, of the runs whose flags are wanted.
#[must_use]
pub fn pages(image: &Image<'_>, pid: i32, wanted: impl Fn(u32) -> bool) -> HashMap<u64, u64> {
    let process = image.process(pid);
    let mut found = HashMap::new();
    for vma in image.vmas(&process) {
        for run in image.runs(&vma) {
            if run.flags & abi::RUN_UNREADABLE == 0 && wanted(run.flags) {
                found.extend((0..u64::from(run.pages)).map(|at| (run.vaddr + at * 4096, run.page + at)));
            }
        }
    }
    found
}
