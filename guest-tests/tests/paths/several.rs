//! More than one snapshot of a process.

use std::time::Instant;

use guest_tests::device::Device;
use guest_tests::held::Held;
use guest_tests::image::Image;
use guest_tests::patience;
use guest_tests::target::Target;

use crate::outside::Mapped;
use crate::run::wrong;
use crate::{EAGER, LAZY, PUD};

/// The first words of the region's pages.
fn first_words(target: &Target, image: &Image<'_>) -> Vec<u64> {
    let pages = usize::try_from(target.at("pages")).unwrap();
    let pages = image.pages(target.pid(), target.at("region"), pages);
    pages
        .into_iter()
        .map(|page| page.expect("every page is there")[0])
        .collect()
}

#[test]
fn a_second_snapshot_while_the_first_is_open() {
    for (first, second) in [(LAZY, LAZY), (LAZY, EAGER), (EAGER, LAZY), (PUD, PUD)] {
        for kind in ["small", "huge", "torn"] {
            let mut target = Target::spawn("paths", &[kind, "write"]);
            let device = Device::open();
            let before = device.take_how(&[target.pid()], first).unwrap();
            assert!(!target.ask().is_empty());
            let held = Held::begin(target.pid(), second);
            assert_eq!(target.ask(), "right\n");
            let after = held.release();
            assert_eq!(wrong(&target, &before, kind), [0_usize; 0], "{kind}");
            // Every third page is new, the others as they were; then all of them were written once more.
            let (start, salt) = (target.at("region"), target.at("salt"));
            let image = Image::open(&after.file);
            for (number, word) in first_words(&target, &image).into_iter().enumerate() {
                let address = start + number as u64 * 4096;
                let written = number % 3 == 0 || [511, 512, 1023].contains(&number);
                let expected = address ^ if written { !salt } else { salt };
                assert_eq!(word, expected, "{kind}: page {number} of the second");
            }
        }
    }
}

/// The page tables of strangers are not looked at: what they can write to is copied in the stop.
#[test]
fn a_file_that_somebody_else_has_mapped_is_copied_in_the_stop() {
    for how in [LAZY, PUD, EAGER] {
        for kind in ["shared", "shared_huge"] {
            let mut target = Target::spawn("paths", &[kind, "written"]);
            let mapped = Mapped::new(&target);
            mapped.read();
            let held = Held::begin(target.pid(), how);
            mapped.write();
            assert!(!target.ask().is_empty());
            let snapshot = held.release();
            assert_eq!(wrong(&target, &snapshot, kind), [0_usize; 0], "{how:?} {kind}");
            let counts = snapshot.take.counts;
            assert_eq!(
                (counts.pages_shared, counts.pages_shared_stop),
                (1024, 1024),
                "{how:?}"
            );
        }
    }
}

/// Pages that two processes share are there once. Here each of them stands between two that they do not share: so it is a run of its own.
#[test]
fn pages_that_alternate_between_shared_and_own_are_all_there() {
    for how in [LAZY, PUD, EAGER] {
        let target = Target::spawn("mover", &["fork"]);
        let child = i32::try_from(target.at("child")).unwrap();
        let (start, count) = (
            target.at("from"),
            usize::try_from(target.at("bytes") / 4096).unwrap(),
        );
        let snapshot = Device::open().take_how(&[target.pid(), child], how).unwrap();
        let image = Image::open(&snapshot.file);
        for pid in [target.pid(), child] {
            let pages = image.pages(pid, start, count);
            let wrong = (start..)
                .step_by(4096)
                .zip(pages)
                .enumerate()
                .filter(|(index, (address, page))| {
                    let mark = if pid == target.pid() && index % 2 == 0 {
                        3
                    } else {
                        1
                    };
                    page.as_ref().is_none_or(|page| page[0] != address * 2 + mark)
                });
            assert_eq!(wrong.count(), 0, "{how:?} {pid}");
        }
    }
}

/// Each page of a file that all of them map is copied once, and after the stop.
#[test]
fn a_file_that_several_targets_map_is_copied_once() {
    let target = Target::spawn("oracle", &["64", "small"]);
    let child = i32::try_from(target.at("child")).unwrap();
    let counts = |pids: &[i32]| Device::open().take_how(pids, LAZY).unwrap().take.counts;
    // Pages that somebody just looks at, or that lie in a batch of the LRU's, are copied in the stop. So are all of them
    // where the machine is so busy that not every thread was seen outside of the kernel within a second. At first, the target may
    // not have written to all of them yet.
    let pages = target.at("shared_pages");
    let begin = Instant::now();
    loop {
        let both = counts(&[target.pid(), child]);
        if both.pages_shared == pages && both.pages_shared_stop < pages {
            break;
        }
        assert!(begin.elapsed() < patience(60), "{both:?}");
    }
    // The parent, which is no target of this one, can write to it.
    let one = counts(&[child]);
    assert_eq!(
        (one.pages_shared, one.pages_shared_stop),
        (pages, pages),
        "{one:?}"
    );
}
