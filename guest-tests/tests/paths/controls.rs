//! The cases are worth something: without the hooks they fail. Of what goes away or becomes writable the module itself
//! notices that it is not as it was armed. Only cases that leave the tables of the third level where they are; the module looks at them.

use guest_tests::device::{Device, How};
use guest_tests::knob::{Knob, NO_FAULTS, NO_FILE, NO_GUP, NO_MAPPING, NO_NOTICES};
use snap_common::abi;

use crate::cases::{CASES, Case};
use crate::run::{BATCHED, attempt, run};
use crate::{LAZY, PUD};

fn case(action: &str, kind: &str, path: u32) -> &'static Case {
    let case = CASES
        .iter()
        .find(|case| case.action == action && case.path == path && case.kinds.contains(&kind));
    case.expect("there is such a case")
}

/// Runs a case without a hook. So many pages must be wrong, but for those that were held in the stop.
fn assert_wrong(hook: i32, how: How, (action, kind, path): (&str, &str, u32), pages: usize) {
    let _knobs = [Knob::set("test_no_hook", hook), Knob::set("test_no_look", 1)];
    let outcome = run(case(action, kind, path), kind, how);
    assert!(
        outcome.wrong_pages + BATCHED >= pages,
        "{action} {kind}: only {} are wrong: {:?}",
        outcome.wrong_pages,
        outcome.take.counts
    );
}

#[test]
fn without_the_hook_of_page_faults_what_is_written_is_wrong() {
    for (action, pages) in [
        ("write", 343),
        ("write_threads", 1024),
        ("read_file", 300),
        ("read_pipe", 300),
        ("read_zeros", 300),
        ("read_direct", 300),
        ("register", 300),
        ("vfork", 300),
        ("written", 300),
    ] {
        for kind in ["small", "huge"] {
            assert_wrong(NO_FAULTS, LAZY, (action, kind, abi::PATH_FAULT), pages);
        }
    }
}

/// Runs a case without a hook: the module must notice.
fn assert_noticed(hook: i32, (action, kind, path): (&str, &str, u32)) {
    let _knob = Knob::set("test_no_hook", hook);
    let failed = attempt(case(action, kind, path), kind, LAZY).err();
    let reason = failed.map(|failed| failed.reason);
    assert_eq!(reason, Some(abi::REASON_CHANGED), "{action} {kind}");
    assert_eq!(Device::open().open_snapshots(), 0);
}

#[test]
fn without_the_hook_of_page_faults_it_is_noticed_that_pages_can_be_written() {
    for kind in ["small", "huge", "torn"] {
        assert_noticed(NO_FAULTS, ("write", kind, abi::PATH_FAULT));
    }
}

#[test]
fn without_the_hook_of_page_faults_shared_memory_is_wrong() {
    for (action, pages) in [
        ("write", 343),
        ("fork_shared", 800),
        ("read_file", 300),
        ("vfork", 300),
    ] {
        for kind in ["shared", "shared_huge", "system_v"] {
            assert_wrong(
                NO_FAULTS | NO_MAPPING,
                LAZY,
                (action, kind, abi::PATH_FAULT),
                pages,
            );
        }
    }
}

#[test]
fn without_the_hooks_of_mapping_what_becomes_writable_is_wrong() {
    for (action, pages) in [("protect", 512), ("userfault_continue", 300)] {
        assert_wrong(NO_MAPPING, LAZY, (action, "shared", abi::PATH_NOTIFIER), pages);
    }
    // Fifteen of sixteen are mapped with a neighbour.
    let mapped = CASES.iter().find(|case| case.is_mapped_and_read());
    let _knob = Knob::set("test_no_hook", NO_MAPPING);
    let outcome = run(mapped.expect("there is such a case"), "shared", LAZY);
    assert!(outcome.wrong_pages + BATCHED >= 280, "{:?}", outcome.take.counts);
}

#[test]
fn without_the_hooks_of_files_what_is_written_to_them_is_wrong() {
    for (action, pages) in [("written", 300), ("punch", BATCHED + 2), ("cut", BATCHED + 1)] {
        assert_wrong(NO_FILE, LAZY, (action, "shared", abi::PATH_FILE), pages);
    }
}

#[test]
fn without_the_notifier_it_is_noticed_that_pages_are_gone() {
    for (action, kind) in [
        ("drop", "small"),
        ("drop", "huge"),
        ("protect", "small"),
        ("protect", "huge"),
        ("move", "small"),
        ("truncate", "file"),
        ("page_out", "small"),
        ("free", "small"),
        ("collapse", "small"),
    ] {
        assert_noticed(NO_NOTICES, (action, kind, abi::PATH_NOTIFIER));
    }
}

#[test]
fn without_the_hook_of_gup_what_a_debugger_forces_is_wrong() {
    for (action, kind) in [
        ("written_readonly", "readonly"),
        ("written_unseen", "readonly"),
        ("written_unseen", "inaccessible"),
    ] {
        assert_wrong(NO_GUP, LAZY, (action, kind, abi::PATH_GUP), 300);
    }
}

#[test]
fn without_the_hook_of_gup_what_is_handed_out_of_an_armed_gigabyte_is_wrong() {
    if Device::open().info().features & abi::FEATURE_ARM_PUD == 0 {
        return;
    }
    for (action, path) in [
        ("register", abi::PATH_FAULT),
        ("read_direct", abi::PATH_FAULT),
        ("written", abi::PATH_FAULT),
        ("written", abi::PATH_GUP),
    ] {
        assert_wrong(NO_GUP, PUD, (action, "small", path), 300);
    }
}
