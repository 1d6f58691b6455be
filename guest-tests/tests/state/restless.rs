//! Snapshots of a process that makes and gives back descriptors, timers and threads all the time.

use guest_tests::device::{Device, How};
use guest_tests::image::Image;
use guest_tests::knob::Knob;
use guest_tests::rounds;
use guest_tests::target::Target;
use snap_common::abi;

/// What each had counted to at the instant.
#[derive(Debug)]
struct Counts {
    one: u64,
    two: u64,
    events: u64,
    /// The last byte in the pipe, how many there were, and what the module notes of it (`NOTE_*`).
    last: Option<u8>,
    bytes: u64,
    notes: u32,
}

fn counts(target: &Target, how: How) -> Counts {
    let snapshot = Device::open()
        .take_how(&[target.pid()], how)
        .unwrap_or_else(|failed| panic!("{failed:?}"));
    let image = Image::open(&snapshot.file);
    let fds = image.fds(&image.process(target.pid()));
    assert!(fds.is_sorted_by_key(|fd| fd.fd));
    let file = |name: &str| {
        let number = i32::try_from(target.at(name)).unwrap();
        let fd = fds.iter().find(|fd| fd.fd == number).expect("it is in the image");
        image.open_file(fd)
    };
    let text = image.text(file("counter").text);
    let count = text.lines().find_map(|line| line.strip_prefix("eventfd-count:"));
    let pipe = file("pipe");
    Counts {
        one: file("one").position,
        two: file("two").position,
        events: u64::from_str_radix(count.expect("it says so").trim(), 16).unwrap(),
        last: image.blob(pipe.pipe).last().copied(),
        bytes: pipe.pipe.length.into(),
        notes: pipe.notes,
    }
}

impl Counts {
    /// Each has as much as the one before it, or one less.
    fn fit(&self) -> bool {
        let behind = |before: u64, after: u64| after == before || after + 1 == before;
        behind(self.one, self.two)
            && behind(self.two, self.events)
            && self.events + 1 >= self.one
            && self.last.is_none_or(|last| {
                [self.events, self.events.saturating_sub(1)]
                    .map(|count| count % 251)
                    .contains(&u64::from(last))
            })
    }
}

#[test]
fn descriptors_are_of_one_instant() {
    let target = Target::spawn("fidget", &[]);
    let mut bytes = 0;
    for freeze in [abi::FREEZE_SOFT, abi::FREEZE_IPI] {
        for round in 0..rounds(20) {
            let how = How {
                freeze,
                ..How::default()
            };
            let counts = counts(&target, how);
            assert!(counts.fit(), "{how:?}, round {round}: {counts:?}");
            assert_eq!(counts.notes, 0, "{how:?}, round {round}: {counts:?}");
            bytes += counts.bytes;
        }
    }
    assert!(bytes > 0, "there was something in the pipe");
}

/// With nobody frozen, and no memory armed that would hold up who writes to it, they are of several instants; of the pipe, which may be
/// in use, nothing is said then.
#[test]
fn without_the_stop_they_are_not() {
    let target = Target::spawn("fidget", &["alone"]);
    let _knobs = ["test_no_freeze", "test_no_arm"].map(|name| Knob::set(name, 1));
    let found = (0..rounds(60)).any(|_| !counts(&target, How::default()).fit());
    assert!(found, "every one of them fits");
}
