//! All of it at once.

use guest_tests::device::Device;
use guest_tests::drift::Drift;
use guest_tests::pressure::{Collapsing, Group, Merging, Pressure, Swap};
use guest_tests::rounds;

use crate::ng::StressNg;
use crate::{assert_right, first_ways};

#[test]
fn all_of_it_at_once() {
    let _swap = Swap::on_zram();
    let _settings = (Merging::begin(), Collapsing::begin());
    let group = Group::new("stress");
    let mut drift = Drift::spawn(group.path());
    let ng = StressNg::start();
    let pressures = [Pressure::swapping(&group, 4 << 20), Pressure::compacting()];
    for round in 0..rounds(1) {
        for how in first_ways() {
            let mut pids = ng.workers();
            pids.push(drift.target.pid());
            let taken = Device::open().take_how(&pids, how);
            let snapshot = taken.unwrap_or_else(|failed| panic!("{how:?}: {failed:?}"));
            assert_right(&mut drift, &snapshot, &format!("round {round}, {how:?}"));
        }
    }
    drop(pressures);
    ng.assert_verified();
    drop(drift);
}
