//! Every way in which memory may change after the window and before the module has taken its references: whoever is
//! about to change an entry takes them first. The take is held there (`Held`), the target does one thing, and then the
//! image must be that of the instant, and the target's memory what it made of it.

mod cases;
mod controls;
mod outside;
mod run;
mod several;

use cases::{CASES, Case};
use guest_tests::device::{Device, How};
use guest_tests::rounds_of;
use run::{can, run};
use snap_common::abi;

/// Runs those of the cases that `wanted` names, with every kind of memory.
fn all(how: How, wanted: impl Fn(&Case) -> bool) {
    let mut broken = Vec::new();
    for case in CASES.iter().filter(|case| wanted(case)) {
        for kind in case.kinds.iter().filter(|kind| can(kind)) {
            println!("{} {kind}", case.action);
            let outcome = run(case, kind, how);
            if how.arm == abi::ARM_LAZY {
                broken.extend(outcome.not_by(case, kind));
            }
            broken.extend(outcome.wrong);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

const LAZY: How = How {
    arm: abi::ARM_LAZY,
    freeze: abi::FREEZE_AUTO,
    flags: 0,
    deadline_ms: 0,
};

const EAGER: How = How {
    arm: abi::ARM_EAGER,
    ..LAZY
};

const PUD: How = How {
    arm: abi::ARM_PUD,
    ..LAZY
};

#[test]
fn lazily_armed_pages_are_held_by_page_faults() {
    all(LAZY, |case| case.path == abi::PATH_FAULT);
}

#[test]
fn lazily_armed_pages_are_held_by_changes_of_the_mapping() {
    all(LAZY, |case| case.path == abi::PATH_NOTIFIER);
}

#[test]
fn lazily_armed_pages_are_held_when_somebody_else_writes() {
    all(LAZY, |case| case.path == abi::PATH_GUP);
}

#[test]
fn lazily_armed_pages_are_held_in_the_stop_or_at_last() {
    all(LAZY, |case| {
        [abi::PATH_STOP, abi::PATH_BACKGROUND].contains(&case.path)
    });
}

#[test]
fn pages_of_a_shared_file_are_copied_before_it_is_written_to() {
    all(LAZY, |case| case.path == abi::PATH_FILE);
}

/// By the hooks that hold lazily armed pages, too, all of whose cases run above.
#[test]
fn lazily_armed_gigabytes_are_held_by_whoever_is_first() {
    if Device::open().info().features & abi::FEATURE_ARM_PUD != 0 {
        all(PUD, one_of_three);
    }
}

/// What has been held in the stop does not ask by whom it is changed.
#[test]
fn eagerly_armed_pages_are_held_already() {
    all(EAGER, one_of_three);
}

/// Every third case, and under `cargo xtask soak` all of them.
fn one_of_three(case: &Case) -> bool {
    let number = CASES.iter().position(|one| std::ptr::eq(one, case));
    number.is_some_and(|number| number.is_multiple_of(rounds_of(3, 1)))
}
