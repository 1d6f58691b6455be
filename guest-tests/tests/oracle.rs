//! Snapshots of a process whose memory must be consistent at every instant, checked word by word, under load.

use guest_tests::device::{Device, How};
use guest_tests::image::Image;
use guest_tests::knob::Knob;
use guest_tests::oracle::Oracle;
use guest_tests::target::Target;
use guest_tests::{rounds, rounds_of, sh};
use snap_common::abi;

const PAGES: usize = 1024;

/// How memory can be armed, with the feature that it takes.
const ARMS: [(u32, u64); 4] = [
    (abi::ARM_AUTO, 0),
    (abi::ARM_EAGER, abi::FEATURE_ARM_EAGER),
    (abi::ARM_LAZY, abi::FEATURE_ARM_LAZY),
    (abi::ARM_PUD, abi::FEATURE_ARM_PUD),
];
/// How threads can be frozen, with the feature that it takes.
const FREEZES: [(u32, u64); 3] = [
    (abi::FREEZE_SOFT, abi::FEATURE_FREEZE_SOFT),
    (abi::FREEZE_IPI, abi::FEATURE_FREEZE_IPI),
    (abi::FREEZE_SIGNAL, abi::FEATURE_FREEZE_SIGNAL),
];

/// Every way to take a snapshot that this module has.
fn ways() -> Vec<How> {
    let features = Device::open().info().features;
    let has = |feature| features & feature == feature;
    let arms = ARMS.iter().filter(|(_, feature)| has(*feature));
    arms.flat_map(|(arm, _)| {
        let freezes = FREEZES.iter().filter(|(_, feature)| has(*feature));
        freezes.map(|(freeze, _)| How {
            arm: *arm,
            freeze: *freeze,
            ..How::default()
        })
    })
    .collect()
}

fn check(kind: &str) {
    let oracle = Oracle::spawn(PAGES, kind);
    let target = &oracle.target;
    let mut threads = 0;
    for (round, how) in (0..rounds_of(12, 540)).zip(ways().into_iter().cycle()) {
        let snapshot = oracle.take_and_wait(how);
        assert_eq!(
            oracle.wrong(&snapshot),
            [""; 0],
            "round {round}, {how:?}: {:?}",
            snapshot.take.counts
        );
        let image = Image::open(&snapshot.file);
        let process = image.process(target.pid());
        assert!([process.arm_mode, abi::ARM_AUTO].contains(&how.arm), "{how:?}");
        let found = image.threads(&process);
        assert_eq!(found.len(), 11, "every thread is in the image");
        assert!(
            found.iter().all(|thread| thread.regs.length > 216),
            "with its registers"
        );
        threads += snapshot.take.counts.threads_parked;
    }
    assert!(threads > 0, "threads were parked");
    target.assert_runs();
}

#[test]
fn small_pages_are_of_one_instant() {
    check("small");
}

#[test]
fn huge_pages_are_of_one_instant() {
    check("thp");
}

#[test]
fn snapshots_asked_for_at_once_are_each_of_one_instant() {
    let oracle = &Oracle::spawn(PAGES, "small");
    for _ in 0..rounds(1) {
        let taken: Vec<_> = std::thread::scope(|scope| {
            let takers: Vec<_> = ways()
                .into_iter()
                .map(|how| scope.spawn(move || oracle.take(how)))
                .collect();
            takers
                .into_iter()
                .map(|taker| taker.join().expect("it is taken"))
                .collect()
        });
        oracle.overwritten();
        for snapshot in &taken {
            assert_eq!(oracle.wrong(snapshot), [""; 0]);
        }
    }
}

/// What is larger than a gigabyte would stand still for longer under LAZY than PUD keeps anybody.
#[test]
fn auto_goes_by_size() {
    // Less memory is there than the writer may force to be copied; it is let go at once.
    let how = How {
        flags: abi::TAKE_FORCE,
        ..How::default()
    };
    for (pages, mode, reason) in [
        (PAGES, abi::ARM_LAZY, abi::ARM_DEFAULT),
        ((1 << 30) / 4096, abi::ARM_PUD, abi::ARM_LARGE),
    ] {
        let oracle = Oracle::spawn(pages, "thp");
        let snapshot = oracle.take(how);
        let image = Image::open(&snapshot.file);
        let process = image.process(oracle.target.pid());
        assert_eq!(
            (process.arm_mode, process.arm_reason),
            (mode, reason),
            "{pages} pages"
        );
    }
}

#[test]
fn without_arming_the_snapshot_is_wrong() {
    let oracle = Oracle::spawn(PAGES, "small");
    let _knob = Knob::set("test_no_arm", 1);
    for how in ways() {
        let snapshot = oracle.take(how);
        // The image is live memory then, and looks right where the writer happens not to run during the look.
        let seen = (0..10).any(|_| {
            oracle.overwritten();
            !oracle.wrong(&snapshot).is_empty()
        });
        assert!(seen, "{how:?}: the check sees that nothing was armed");
    }
}

#[test]
fn without_freezing_the_snapshot_is_wrong() {
    let oracle = Oracle::spawn(PAGES, "small");
    let _knob = Knob::set("test_no_freeze", 1);
    // The other ways arm too fast for a writer to be seen in between every time.
    let how = How {
        arm: abi::ARM_EAGER,
        ..How::default()
    };
    let broken = (0..60).any(|_| !oracle.wrong(&oracle.take_and_wait(how)).is_empty());
    assert!(broken, "the check sees that nobody stood still");
}

#[test]
fn swapped_pages_are_in_the_image() {
    let _swap = Swap::on_zram();
    for no_prefault in [0, 1] {
        let _knob = Knob::set("test_no_prefault", no_prefault);
        let oracle = Oracle::spawn(PAGES, "small");
        let target = &oracle.target;
        let mut brought_in = 0;
        for (round, how) in (0..rounds(6)).zip(ways().into_iter().cycle()) {
            // Stopped, it cannot bring its pages back before the snapshot does.
            signal(target, libc::SIGSTOP);
            page_out(target.pid(), target.at("region"), PAGES as u64 * 4096);
            let snapshot = oracle.take(how);
            signal(target, libc::SIGCONT);
            oracle.overwritten();
            assert_eq!(oracle.wrong(&snapshot), [""; 0], "round {round}, {how:?}");
            let abi::Counts {
                pages_swapped_in,
                pages_prefaulted,
                ..
            } = snapshot.take.counts;
            brought_in += if no_prefault == 1 {
                pages_swapped_in
            } else {
                pages_prefaulted
            };
        }
        assert!(brought_in > 0, "some pages were in swap");
    }
}

fn signal(target: &Target, signal: i32) {
    // SAFETY: no memory is involved; the process is our child and not reaped yet.
    assert_eq!(unsafe { libc::kill(target.pid(), signal) }, 0);
}

/// Pushes pages of another process to swap.
fn page_out(pid: i32, start: u64, bytes: u64) {
    let range = libc::iovec {
        iov_base: start as *mut _,
        iov_len: usize::try_from(bytes).unwrap(),
    };
    // SAFETY: no memory of ours is involved.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(pidfd >= 0);
    // SAFETY: `range` outlives the call; MADV_PAGEOUT changes no content.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            pidfd,
            &raw const range,
            1,
            libc::MADV_PAGEOUT,
            0,
        )
    };
    assert!(advised > 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is ours.
    assert_eq!(unsafe { libc::close(i32::try_from(pidfd).unwrap()) }, 0);
}

/// A zram device as swap, taken away at the end.
struct Swap;

impl Swap {
    fn on_zram() -> Self {
        sh("modprobe zram; echo 256M > /sys/block/zram0/disksize; mkswap -q /dev/zram0; swapon /dev/zram0");
        Self
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        sh("swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset");
    }
}
