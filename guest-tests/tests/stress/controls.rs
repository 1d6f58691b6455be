//! The checks are worth something: they fail where the module does not do its work.

use guest_tests::device::Device;
use guest_tests::drift::Drift;
use guest_tests::held::Held;
use guest_tests::knob::{Knob, NO_NOTICES};
use guest_tests::pressure::{Group, Pressure, Swap};
use snap_common::abi;

use crate::{LAZY, first_ways};

#[test]
fn without_arming_what_is_written_is_wrong() {
    let _swap = Swap::on_zram();
    let group = Group::new("stress");
    let mut drift = Drift::spawn(group.path());
    let _knob = Knob::set("test_no_arm", 1);
    for how in first_ways() {
        let held = Held::begin(drift.target.pid(), how);
        let pressures = [Pressure::swapping(&group, 4 << 20), Pressure::compacting()];
        drift.overwritten();
        let snapshot = held.release();
        drop(pressures);
        // What was moved or swapped out since is a copy; of what is written all the time, some is not. The image is live
        // memory there, and looks right where the writer happens not to run during the look.
        let seen = (0..10).any(|_| {
            drift.overwritten();
            let wrong = drift.wrong(&snapshot);
            wrong.iter().any(|line| line.starts_with("busy"))
        });
        assert!(seen, "{how:?}: the check sees that nothing was armed");
    }
    drift.assert_right();
    drop(drift);
}

#[test]
fn without_the_notifier_what_is_swapped_out_is_missed() {
    let _swap = Swap::on_zram();
    let group = Group::new("stress");
    let mut drift = Drift::spawn(group.path());
    let knob = Knob::set("test_no_hook", NO_NOTICES);
    let held = Held::begin(drift.target.pid(), LAZY);
    group.reclaim(6 << 20);
    let reason = held.let_go().err().map(|failed| failed.reason);
    assert_eq!(reason, Some(abi::REASON_CHANGED));
    drop(knob);
    let device = Device::open();
    assert_eq!(device.open_snapshots(), 0);
    drift.overwritten();
    drift.assert_right();
    assert!(device.take_how(&[drift.target.pid()], LAZY).is_ok());
    drop(drift);
}
