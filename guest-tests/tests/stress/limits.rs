//! Too little memory.

use std::time::{Duration, Instant};

use guest_tests::device::Device;
use guest_tests::drift::Drift;
use guest_tests::held::Held;
use guest_tests::rounds;

use crate::pressure::{Group, Swap};
use crate::ways;

/// Lets a target have no more memory than it has, until it is killed for wanting more.
fn starve(group: &Group, drift: &mut Drift) {
    let begin = Instant::now();
    while group.killed() == 0 {
        group.set("memory.max", &group.number("memory.current").to_string());
        assert!(begin.elapsed() < Duration::from_secs(60), "it wants no more");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(drift.target.hear(), "", "it is gone");
}

#[test]
fn a_target_that_is_killed_for_its_copies_is_in_its_image() {
    for how in ways() {
        let group = Group::new("stress");
        let mut drift = Drift::spawn(group.path());
        let taken = Device::open().take_how(&[drift.target.pid()], how);
        let snapshot = taken.unwrap_or_else(|failed| panic!("{how:?}: {failed:?}"));
        starve(&group, &mut drift);
        assert_eq!(drift.wrong(&snapshot), [""; 0], "{how:?}");
        drop(drift);
    }
}

#[test]
fn a_target_that_is_killed_before_its_pages_are_held_is_in_its_image() {
    for how in ways() {
        let group = Group::new("stress");
        let mut drift = Drift::spawn(group.path());
        let held = Held::begin(drift.target.pid(), how);
        starve(&group, &mut drift);
        let snapshot = held.release();
        assert_eq!(drift.wrong(&snapshot), [""; 0], "{how:?}");
        drop(drift);
    }
}

#[test]
fn a_target_that_swaps_because_of_its_limit_is_not_killed_in_the_stop() {
    let _swap = Swap::on_zram();
    for how in ways() {
        let group = Group::new("stress");
        group.set("memory.max", "12M");
        let mut drift = Drift::spawn(group.path());
        for _ in 0..rounds(2) {
            let taken = Device::open().take_how(&[drift.target.pid()], how);
            let snapshot = taken.unwrap_or_else(|failed| panic!("{how:?}: {failed:?}"));
            assert_eq!(drift.wrong(&snapshot), [""; 0], "{how:?}");
            drop(snapshot);
            drift.assert_right();
        }
        assert_eq!(group.killed(), 0);
        drop(drift);
    }
}
