//! Hundreds of snapshots, and the kernel has all of its memory back.

use std::thread::sleep;
use std::time::Duration;

use guest_tests::device::{Device, How};
use guest_tests::oracle::Oracle;
use guest_tests::target::Target;
use guest_tests::{rounds_of, sh};
use snap_common::abi;

/// A line of /proc/meminfo, in KiB.
fn meminfo(name: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn settled() -> [i64; 3] {
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    // KASAN keeps what is freed to itself for a while, up to a 32nd of the memory; it counts as Slab.
    sh("for cache in /sys/kernel/slab/*/shrink; do echo 1 > $cache; done");
    sleep(Duration::from_millis(500));
    [meminfo("AnonPages:"), meminfo("Slab:"), meminfo("VmallocUsed:")]
}

/// Takes some to warm up, then many, and compares what the kernel has in use.
fn leaks_nothing(count: usize, mut take: impl FnMut(usize)) {
    (0..10).for_each(&mut take);
    let before = settled();
    (0..count).for_each(&mut take);
    let after = settled();
    // The memory of four of them, 2.5 MiB each, would already be too much.
    for (name, limit, (before, after)) in [("AnonPages", 8192), ("Slab", 6144), ("VmallocUsed", 2048)]
        .iter()
        .zip(before.into_iter().zip(after))
        .map(|((name, limit), pair)| (name, limit, pair))
    {
        println!("{name}: {before} KiB before, {after} KiB after");
        assert!(
            after - before < *limit,
            "{name} grew from {before} to {after} KiB"
        );
    }
    assert_eq!(Device::open().open_snapshots(), 0);
}

#[test]
fn many_snapshots_leak_nothing() {
    let target = Target::spawn("oracle", &["512", "small"]);
    target.assert_runs();
    let device = Device::open();
    leaks_nothing(rounds_of(60, 2000), |_| {
        let snapshot = device
            .take(&[target.pid()], 0)
            .unwrap_or_else(|failed| panic!("{failed:?}"));
        assert!(snapshot.take.counts.pages_armed > 512);
        sleep(Duration::from_millis(5));
    });
}

#[test]
fn snapshots_in_a_row_are_right_and_leak_nothing() {
    for (arm, kind, soaking) in [
        (abi::ARM_LAZY, "small", 400),
        (abi::ARM_LAZY, "thp", 100),
        (abi::ARM_PUD, "small", 100),
        (abi::ARM_EAGER, "small", 100),
    ] {
        let how = How {
            arm,
            ..How::default()
        };
        let oracle = Oracle::spawn(512, kind);
        leaks_nothing(rounds_of(10, soaking), |round| {
            let snapshot = oracle.take(how);
            if round % 10 == 9 {
                oracle.overwritten();
                assert_eq!(oracle.wrong(&snapshot), [""; 0], "{how:?}, round {round}");
            }
        });
    }
}
