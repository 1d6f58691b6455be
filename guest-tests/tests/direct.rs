//! Direct reads that are under way at the instant: the device writes to the target's pages behind its page tables. The
//! snapshot must not come between them.

use std::thread::sleep;
use std::time::Duration;

use guest_tests::device::{Device, How};
use guest_tests::image::Image;
use guest_tests::knob::Knob;
use guest_tests::sh;
use guest_tests::target::{Target, numbers};
use snap_common::abi;

/// As `direct` has them.
const FIRST: u64 = 0x1111_1111_1111_1111;
const WRITTEN: u64 = 0x3333_3333_3333_3333;
/// What the device holds.
const STORED: u64 = 0x2222_2222_2222_2222;

/// A device whose reads wait while it is suspended.
struct Disk(String);

impl Disk {
    const PATH: &str = "/dev/mapper/waiting";

    fn new() -> Self {
        sh("modprobe loop; modprobe dm-mod; head -c 1M /dev/zero | tr '\\0' '\\42' >/tmp/waiting");
        let device = sh("losetup -f --show /tmp/waiting").trim().to_owned();
        sh(&format!("echo 0 2048 linear {device} 0 | dmsetup create waiting"));
        Self(device)
    }

    fn suspend(&self) {
        sh("dmsetup suspend --nolockfs --noflush waiting");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh("dmsetup remove --retry waiting");
        sh(&format!("losetup -d {}; rm /tmp/waiting", self.0));
    }
}

/// A read that waits; when this goes out of scope, the device delivers. A target can be reaped only after that.
struct Waiting;

impl Waiting {
    /// Waits until a thread of the target waits for the device.
    fn of(target: &Target) -> Self {
        let waiting = Self;
        for _ in 0..500 {
            let threads = format!("grep -c '^State:.D' /proc/{}/task/*/status || true", target.pid());
            if sh(&threads).contains(":1") {
                return waiting;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("the read is not under way");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        sh("dmsetup resume waiting");
    }
}

/// The first and the last word of a page.
type Words = [u64; 2];

/// Snapshots a target whose page is being read to; then it writes to the page, and then the device delivers. Returns
/// what is in the image, and what the target finds in its page.
fn delivered(kind: &str, arm: u32) -> (Words, Words) {
    let disk = Disk::new();
    disk.suspend();
    let mut target = Target::spawn("direct", &[kind, Disk::PATH]);
    let waiting = Waiting::of(&target);
    let how = How {
        arm,
        ..How::default()
    };
    let snapshot = Device::open().take_how(&[target.pid()], how).unwrap();
    assert_eq!(target.ask(), "written\n");
    drop(waiting);
    let found = numbers(&target.hear());
    let image = Image::open(&snapshot.file);
    let page = target.at("page");
    let held = [page, page + 4088].map(|word| image.word(target.pid(), word));
    drop(target); // before its disk
    (held, [found["read"], found["written"]])
}

#[test]
fn a_direct_read_and_a_write_beside_it_both_arrive() {
    for arm in [abi::ARM_EAGER, abi::ARM_LAZY, abi::ARM_PUD] {
        for kind in ["small", "huge", "torn"] {
            assert_eq!(
                delivered(kind, arm),
                ([FIRST, FIRST], [STORED, WRITTEN]),
                "{kind}, armed by {arm}"
            );
        }
    }
}

#[test]
fn a_page_that_is_not_seen_to_be_in_use_loses_what_is_read() {
    let _knob = Knob::set("test_no_in_use", 1);
    // Eagerly: what is armed lazily gets a second look when it is held, and where direct reads pin, that is in time here.
    for kind in ["small", "huge", "torn"] {
        assert_eq!(
            delivered(kind, abi::ARM_EAGER),
            ([STORED, FIRST], [FIRST, WRITTEN]),
            "{kind}"
        );
    }
}
