//! Pages that move, are merged, split and collapsed.

use guest_tests::drift::Drift;
use guest_tests::pressure::{Collapsing, Events, Merging, Pressure};
use guest_tests::rounds_of;

use crate::all_are_right;

#[test]
fn while_the_kernel_compacts() {
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    let events = Events::now();
    let pressure = Pressure::compacting();
    events.until(&["pgmigrate_success"], 1000, || {
        all_are_right(&mut drift, rounds_of(1, 20));
    });
    drop(pressure);
}

#[test]
fn while_the_kernel_merges_pages() {
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    let merging = Merging::begin();
    merging.wait_for(200);
    all_are_right(&mut drift, rounds_of(1, 20));
    merging.wait_for(200);
}

#[test]
fn while_the_kernel_collapses_pages_and_they_are_split() {
    let events = Events::now();
    let collapsing = Collapsing::begin();
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    events.until(&["thp_split_pmd", "thp_collapse_alloc"], 4, || {
        all_are_right(&mut drift, rounds_of(1, 20));
    });
    drop(collapsing);
}
