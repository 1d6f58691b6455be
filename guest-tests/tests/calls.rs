//! A snapshot is no signal: no system call that a target sleeps in fails with `EINTR`, unless `--freeze signal` is asked for.

use std::collections::HashMap;

use guest_tests::device::{Device, How};
use guest_tests::rounds;
use guest_tests::target::{Target, numbers};
use snap_common::abi;

/// How often each call was interrupted by snapshots that were taken so.
fn interrupted(how: How) -> HashMap<String, u64> {
    let mut target = Target::spawn("waiting", &[]);
    for _ in 0..rounds(10) {
        Device::open()
            .take_how(&[target.pid()], how)
            .unwrap_or_else(|failed| panic!("{how:?}: {failed:?}"));
    }
    let found = numbers(&target.ask());
    assert_eq!(found.len(), 4, "{how:?}: a call did what it should not");
    found
}

#[test]
fn no_call_is_interrupted() {
    for freeze in [abi::FREEZE_SOFT, abi::FREEZE_IPI] {
        for arm in [abi::ARM_EAGER, abi::ARM_LAZY, abi::ARM_PUD] {
            let how = How {
                arm,
                freeze,
                ..How::default()
            };
            let found = interrupted(how);
            assert!(found.values().all(|count| *count == 0), "{how:?}: {found:?}");
        }
    }
}

#[test]
fn with_signals_calls_are_interrupted() {
    let found = interrupted(How {
        freeze: abi::FREEZE_SIGNAL,
        ..How::default()
    });
    for call in ["epoll_wait", "semop", "sigtimedwait"] {
        assert!(found[call] > 0, "{found:?}");
    }
}
