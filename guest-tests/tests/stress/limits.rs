//! Too little memory.

use std::time::{Duration, Instant};

use guest_tests::device::{Device, Failed, How};
use guest_tests::drift::{Drift, REGIONS};
use guest_tests::held::Held;
use guest_tests::image::Image;
use guest_tests::knob::Knob;
use guest_tests::pressure::{Group, Settings, Swap};
use guest_tests::rounds_of;
use guest_tests::target::Target;
use snap_common::abi;
use snap_common::phase::Phase;

use crate::{LAZY, assert_right, first_ways, ways};

/// Lets a target have no more memory than it has, until it is killed for wanting more.
fn starve(group: &Group, drift: &mut Drift) {
    let begin = Instant::now();
    while group.killed() == 0 {
        group.set("memory.max", &group.number("memory.current").to_string());
        assert!(begin.elapsed() < Duration::from_secs(60), "it wants no more");
        std::thread::sleep(Duration::from_millis(20));
    }
    drift.target.assert_exits();
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

/// What the target has in swap is brought in while everything else of it is armed. Once the stop is over, the limit is lifted:
/// the pages that a snapshot holds stay charged, and a target that goes on writing may be killed for its copies.
#[test]
fn a_target_that_swaps_because_of_its_limit_is_not_killed_in_the_stop() {
    let _swap = Swap::on_zram();
    let _later = Knob::set("test_no_prefault", 1);
    for how in first_ways() {
        let group = Group::new("stress");
        let mut drift = Drift::spawn(group.path());
        for _ in 0..rounds_of(1, 20) {
            group.reclaim(6 << 20);
            group.set("memory.max", "10M");
            let held = Held::begin_at(Phase::ThawTasks, &[drift.target.pid()], how);
            assert_eq!(group.killed(), 0, "{how:?}");
            group.set("memory.max", "max");
            let snapshot = held.release();
            let counts = &snapshot.take.counts;
            assert!(counts.pages_swapped_in > 0, "{how:?}: {counts:?}");
            assert_eq!(drift.wrong(&snapshot), [""; 0], "{how:?}");
            drop(snapshot);
            drift.assert_right();
        }
        drop(drift);
    }
}

/// A failed take leaves the target as it was, and the next one works.
fn assert_untouched(drift: &mut Drift) {
    let device = Device::open();
    assert_eq!(device.open_snapshots(), 0);
    drift.overwritten();
    drift.assert_right();
    let taken = device.take_how(&[drift.target.pid()], LAZY);
    let snapshot = taken.unwrap_or_else(|failed| panic!("{failed:?}"));
    assert_right(drift, &snapshot, "after a failure");
}

/// The ways in which pages are held after the stop.
fn late_ways() -> impl Iterator<Item = How> {
    ways().into_iter().filter(|how| how.arm != abi::ARM_EAGER)
}

/// Where a suspect has moved before the stop, all pages are held in it, and a page that was held is copied no more until it is written:
/// of those that nobody writes, no later snapshot has copies.
#[test]
fn pages_that_are_copied_after_the_stop_are_right() {
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    let _copy = Knob::set("test_copy", 1);
    let hot: u64 = REGIONS
        .iter()
        .filter(|region| region.hot)
        .map(|region| region.pages)
        .sum();
    for how in late_ways() {
        let copied = (0..20).any(|_| {
            let snapshot = Device::open().take_how(&[drift.target.pid()], how).unwrap();
            assert_right(&mut drift, &snapshot, &format!("{how:?}"));
            snapshot.take.counts.pages_copied > hot / 2
        });
        assert!(copied, "{how:?}: pages are copied");
    }
}

/// Does so until a take fails. Where a suspect has moved before the stop, all pages are held in it, and nothing is left that
/// could fail later.
fn until_it_fails(mut take: impl FnMut() -> Option<Failed>) {
    let failed = (0..50).find_map(|_| take()).expect("a take fails");
    assert_eq!(failed.reason, abi::REASON_NO_MEMORY, "{failed:?}");
    assert_eq!(failed.error.raw_os_error(), Some(libc::ENOMEM));
}

#[test]
fn without_memory_for_copies_after_the_stop_there_is_no_snapshot() {
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    for how in late_ways() {
        let knobs = [Knob::set("test_copy", 1), Knob::set("test_no_memory", 1)];
        // Once by the take itself, once by the faults of the target.
        until_it_fails(|| Device::open().take_how(&[drift.target.pid()], how).err());
        until_it_fails(|| {
            let held = Held::begin(drift.target.pid(), how);
            drift.overwritten();
            held.let_go().err()
        });
        drop(knobs);
        assert_untouched(&mut drift);
    }
}

#[test]
fn without_memory_for_a_page_table_that_is_new_there_is_no_snapshot() {
    let how = How {
        arm: abi::ARM_PUD,
        ..LAZY
    };
    if !ways().iter().any(|way| way.arm == how.arm) {
        return;
    }
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    until_it_fails(|| {
        let _knob = Knob::set("test_no_memory", 1);
        let held = Held::begin_at(Phase::FreezeFs, &[drift.target.pid()], how);
        let _ = drift.grow();
        held.let_go().err()
    });
    assert_untouched(&mut drift);
    // And with memory, it is in the image.
    let held = Held::begin_at(Phase::FreezeFs, &[drift.target.pid()], how);
    let start = drift.grow();
    let snapshot = held.release();
    assert_right(&mut drift, &snapshot, "with a new page table");
    let image = Image::open(&snapshot.file);
    assert_eq!(image.word(drift.target.pid(), start), start);
}

/// A line of /proc/meminfo, in KiB.
pub fn meminfo(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("it is readable");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("it is said").parse().expect("a number")
}

/// Leaves so little memory to everybody. Much of it is taken by the kernel's own reserve, which takes no time; the rest by
/// a process that is killed first for want of it.
struct Hog {
    _hog: Target,
    _reserve: Settings,
}

impl Hog {
    fn leave(kib: u64) -> Self {
        let reserve = (meminfo("MemTotal:") * 2 / 5).to_string();
        let reserve = Settings::set("/proc/sys/vm", &[("min_free_kbytes", &reserve)]);
        let first = "echo 1000 >/proc/self/oom_score_adj && exec hog";
        let mut hog = Target::spawn("sh", &["-c", first]);
        while meminfo("MemAvailable:") > kib {
            let much = (meminfo("MemAvailable:").saturating_sub(kib) * 1024).clamp(4 << 20, 256 << 20);
            assert_eq!(hog.tell(&much.to_string()), "has\n");
        }
        Self {
            _hog: hog,
            _reserve: reserve,
        }
    }
}

#[test]
fn with_hardly_any_memory_a_snapshot_is_refused_or_right() {
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    let hog = Hog::leave(8 << 10);
    for how in ways() {
        let failed = Device::open().take_how(&[drift.target.pid()], how).err();
        let failed = failed.expect("there is not as much memory as it may want");
        assert_eq!(failed.reason, abi::REASON_NO_ROOM, "{failed:?}");
    }
    drift.assert_right();
    let how = How {
        flags: abi::TAKE_FORCE,
        ..LAZY
    };
    match Device::open().take_how(&[drift.target.pid()], how) {
        Ok(snapshot) => assert_right(&mut drift, &snapshot, "by force"),
        Err(failed) => assert_eq!(failed.reason, abi::REASON_NO_MEMORY, "{failed:?}"),
    }
    println!("{} KiB are left", meminfo("MemAvailable:"));
    drop(hog);
    assert_untouched(&mut drift);
}
