//! Snapshots while the kernel's memory management works on the targets: it swaps, compacts, merges, collapses, and runs
//! out of memory. Every word of `drift` is checked against what it must be at the instant; a snapshot is right, or it fails
//! with a reason, and the process goes on as if there had been none.

mod all;
mod controls;
mod limits;
mod moved;
mod ng;
mod room;
mod swap;

use guest_tests::device::{Device, How, Snapshot};
use guest_tests::drift::Drift;
use guest_tests::few;
use guest_tests::unchanged::compare;
use snap_common::abi;

const LAZY: How = How {
    arm: abi::ARM_LAZY,
    freeze: abi::FREEZE_AUTO,
    flags: 0,
    // Nobody is in a hurry here.
    deadline_ms: 60_000,
};

/// Every way of arming that this module has.
fn ways() -> Vec<How> {
    let features = Device::open().info().features;
    let arms = [
        (abi::ARM_LAZY, abi::FEATURE_ARM_LAZY),
        (abi::ARM_PUD, abi::FEATURE_ARM_PUD),
        (abi::ARM_EAGER, abi::FEATURE_ARM_EAGER),
    ];
    arms.into_iter()
        .filter(|(_, feature)| features & feature != 0)
        .map(|(arm, _)| How { arm, ..LAZY })
        .collect()
}

/// The first of them; under `cargo xtask soak` all. Every one goes through the other tests, and `oracle`, in any case.
fn first_ways() -> Vec<How> {
    few(&ways(), 1).to_vec()
}

/// A snapshot must be right when the process has written all of its memory again, which must be right, too.
fn assert_right(drift: &mut Drift, snapshot: &Snapshot, what: &str) {
    drift.overwritten();
    assert_eq!(
        drift.wrong(snapshot),
        [""; 0],
        "{what}: {:?}",
        snapshot.take.counts
    );
    drift.assert_right();
}

/// So many snapshots in each way, all of which must be right, and each be right in what it says is unchanged since the one
/// before. Returns how many pages were brought in from swap, before the
/// stop and in it.
fn all_are_right(drift: &mut Drift, rounds: usize) -> (u64, u64) {
    let (mut prefaulted, mut swapped_in) = (0, 0);
    let mut before: Option<Snapshot> = None;
    for round in 0..rounds {
        for how in ways() {
            let snapshot = Device::open()
                .take_how(&[drift.target.pid()], how)
                .unwrap_or_else(|failed| panic!("round {round}, {how:?}: {failed:?}"));
            assert_right(drift, &snapshot, &format!("round {round}, {how:?}"));
            prefaulted += snapshot.take.counts.pages_prefaulted;
            swapped_in += snapshot.take.counts.pages_swapped_in;
            if let Some(before) = &before {
                let compared = compare(before, &snapshot, drift.target.pid());
                assert_eq!(compared.wrong, [0; 0], "round {round}, {how:?}: {compared:?}");
                println!("{} of {} pages are unchanged", compared.unchanged, compared.pages);
            }
            before = Some(snapshot);
        }
    }
    drop(before);
    assert_eq!(Device::open().open_snapshots(), 0, "nothing is left of them");
    (prefaulted, swapped_in)
}
