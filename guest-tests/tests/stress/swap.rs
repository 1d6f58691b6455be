//! Swap.

use std::fs;

use guest_tests::device::Device;
use guest_tests::drift::Drift;
use guest_tests::held::Held;
use guest_tests::knob::Knob;
use guest_tests::pressure::{Events, Group, Pressure, Swap};
use guest_tests::rounds_of;
use snap_common::abi;
use snap_common::phase::Phase;

use crate::{all_are_right, assert_right, ways};

#[test]
fn while_the_kernel_swaps() {
    let _swap = Swap::on_zram();
    let group = Group::new("stress");
    let mut drift = Drift::spawn(group.path());
    let events = Events::now();
    let pressure = Pressure::swapping(&group, 4 << 20);
    let (mut prefaulted, mut swapped_in) = (0, 0);
    events.until(&["pswpin", "pswpout"], 200, || {
        let counts = all_are_right(&mut drift, rounds_of(1, 20));
        prefaulted += counts.0;
        swapped_in += counts.1;
    });
    drop(pressure);
    println!("{prefaulted} pages were brought in before the stop, {swapped_in} in it");
    // In the stop by chance only; the next test sees to that.
    assert!(prefaulted > 0);
    drop(drift);
}

#[test]
fn what_moves_or_is_swapped_out_at_any_moment_is_in_the_image() {
    let _swap = Swap::on_zram();
    let group = Group::new("stress");
    let mut drift = Drift::spawn(group.path());
    // Before the stop, in it before anything is armed, in it when all is, and after it.
    let phases = [Phase::FreezeFs, Phase::Arm, Phase::ThawTasks, Phase::Finalize];
    let moments = ways()
        .into_iter()
        .flat_map(|how| phases.map(|phase| (how, phase)));
    // EAGER holds everything by the end of the stop.
    for (how, phase) in moments.filter(|(how, phase)| how.arm != abi::ARM_EAGER || *phase != Phase::Finalize)
    {
        let held = Held::begin_at(phase, &[drift.target.pid()], how);
        fs::write("/proc/sys/vm/compact_memory", "1").expect("the kernel can compact");
        group.reclaim(6 << 20);
        let swapped = drift.swapped();
        assert!(swapped > 64 << 10, "only {swapped} bytes are in swap");
        let snapshot = held.release();
        if phase == Phase::Arm {
            let brought_in = snapshot.take.counts.pages_swapped_in;
            assert!(brought_in > 500, "{brought_in} pages were brought in in the stop");
        }
        assert_right(&mut drift, &snapshot, &format!("{}, {how:?}", phase.name()));
    }
    drop(drift);
}

#[test]
fn what_was_about_to_go_when_it_was_armed_is_in_the_image() {
    let _swap = Swap::on_zram();
    let group = Group::new("stress");
    // Whoever has announced a change gets the time to make it.
    let _dwell = Knob::set("test_dwell_us", 5000);
    let _swapping = Pressure::swapping(&group, 1 << 20);
    let _compacting = Pressure::compacting();
    for how in ways().into_iter().cycle().take(rounds_of(3, 60)) {
        // Its huge pages are split the first time that they are swapped out: one change of many entries.
        let mut drift = Drift::spawn(group.path());
        let taken = Device::open().take_how(&[drift.target.pid()], how);
        let snapshot = taken.unwrap_or_else(|failed| panic!("{how:?}: {failed:?}"));
        assert_right(&mut drift, &snapshot, &format!("{how:?}"));
    }
}
