//! More than one snapshot of a process.

use guest_tests::device::Device;
use guest_tests::held::Held;
use guest_tests::image::Image;
use guest_tests::target::Target;

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
