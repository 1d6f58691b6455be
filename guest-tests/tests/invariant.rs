//! Nothing is ever left frozen, whatever dies, fails or changes meanwhile.

use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_tests::device::{Device, Failed};
use guest_tests::knob::Knob;
use guest_tests::target::Target;
use guest_tests::{patience, rounds};
use snap_common::abi;
use snap_common::phase::Phase;

/// The phases that one ioctl goes through.
const PHASES: [Phase; 5] = [
    Phase::Prepare,
    Phase::FreezeTasks,
    Phase::Arm,
    Phase::ThawTasks,
    Phase::Finalize,
];

fn oracle() -> Target {
    let target = Target::spawn("oracle", &["256", "small"]);
    target.assert_runs();
    target
}

fn take_works(target: &Target) {
    let device = Device::open();
    drop(
        device
            .take(&[target.pid()], 0)
            .unwrap_or_else(|failed| panic!("{failed:?}")),
    );
    assert_eq!(device.open_snapshots(), 0);
}

/// A controller of its own: `freezeframe take` in a child process.
fn controller(target: &Target) -> Child {
    Command::new("freezeframe")
        .args([
            "take",
            "--no-daemon",
            "--pid",
            &target.pid().to_string(),
            "-o",
            "/tmp/killed.tar",
        ])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the controller starts")
}

/// Kills a controller: its snapshot ends, and the target runs on.
fn kill(child: &mut Child, device: &Device, target: &Target) {
    child.kill().expect("it is killed");
    child.wait().expect("it is reaped");
    wait_for("the end of the snapshot", || device.open_snapshots() == 0);
    target.assert_runs();
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < patience(30), "{what} never came");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_controller_killed_in_any_phase_leaves_nothing_frozen() {
    let target = oracle();
    let device = Device::open();
    for phase in PHASES {
        for _ in 0..rounds(2) {
            let hold = Knob::set("test_hold_phase", phase as i32);
            let ms = Knob::set("test_hold_ms", 20_000);
            let mut child = controller(&target);
            wait_for("the snapshot", || device.open_snapshots() == 1);
            sleep(Duration::from_millis(100));
            kill(&mut child, &device, &target);
            drop((hold, ms));
            take_works(&target);
        }
    }
}

#[test]
fn a_controller_killed_while_it_drains_leaves_nothing() {
    let target = oracle();
    let device = Device::open();
    for _ in 0..rounds(5) {
        // Nobody reads its standard output, so it gets no further.
        let mut child = Command::new("freezeframe")
            .args([
                "take",
                "--no-daemon",
                "--pid",
                &target.pid().to_string(),
                "-o",
                "-",
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the controller starts");
        wait_for("the snapshot", || device.open_snapshots() == 1);
        sleep(Duration::from_millis(300));
        target.assert_runs();
        kill(&mut child, &device, &target);
        take_works(&target);
    }
}

#[test]
fn a_controller_killed_at_any_time_leaves_nothing_frozen() {
    let target = oracle();
    let device = Device::open();
    for round in 0..rounds(15) {
        let mut child = controller(&target);
        sleep(Duration::from_millis(u64::try_from(round).unwrap() * 7 % 100));
        kill(&mut child, &device, &target);
        if let Err(error) = std::fs::remove_file("/tmp/killed.tar") {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
    take_works(&target);
}

#[test]
fn a_failure_in_any_phase_unwinds() {
    let target = oracle();
    let device = Device::open();
    for phase in PHASES {
        let knob = Knob::set("test_fail_phase", phase as i32);
        let Err(failed) = device.take(&[target.pid()], 0) else {
            panic!("{} was to fail", phase.name())
        };
        assert_eq!(
            (failed.reason, failed.error.raw_os_error()),
            (abi::REASON_INJECTED, Some(libc::EIO))
        );
        drop(knob);
        assert_eq!(device.open_snapshots(), 0);
        target.assert_runs();
        take_works(&target);
    }
}

#[test]
fn a_deadline_that_passes_lets_everybody_go() {
    let target = oracle();
    let device = Device::open();
    for phase in [Phase::FreezeTasks, Phase::Arm] {
        let phase = Knob::set("test_hold_phase", phase as i32);
        let ms = Knob::set("test_hold_ms", 1500);
        let Err(Failed { error, reason, .. }) = device.take(&[target.pid()], 200) else {
            panic!("it was too slow")
        };
        assert_eq!(
            (reason, error.raw_os_error()),
            (abi::REASON_DEADLINE, Some(libc::ETIMEDOUT))
        );
        drop((phase, ms));
        target.assert_runs();
        take_works(&target);
    }
}

#[test]
fn targets_that_never_hold_still() {
    let device = Device::open();
    for habit in ["exec", "fork", "clone"] {
        let target = Target::spawn("restless", &[habit]);
        let mut taken = 0;
        for _ in 0..rounds(30) {
            match device.take(&[target.pid()], 0) {
                Ok(_) => taken += 1,
                Err(Failed { reason, .. }) => {
                    assert!(
                        [abi::REASON_EXEC, abi::REASON_EXITING].contains(&reason),
                        "{habit}: {reason}"
                    );
                }
            }
        }
        assert!(taken > 0, "{habit}: not one snapshot of 30");
        target.assert_runs();
    }
    assert_eq!(device.open_snapshots(), 0);
}

#[test]
fn more_targets_than_lockdep_counts_locks() {
    let targets: Vec<_> = (0..64)
        .map(|_| Target::spawn("sh", &["-c", "echo pid $$; read line"]))
        .collect();
    let pids: Vec<_> = targets.iter().map(Target::pid).collect();
    let snapshot = Device::open()
        .take(&pids, 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"));
    assert_eq!(snapshot.take.counts.processes, 64);
}

#[test]
fn targets_whose_locks_are_never_free() {
    let device = Device::open();
    let targets = [(); 2].map(|()| Target::spawn("restless", &["populate"]));
    let pids: Vec<_> = targets.iter().map(Target::pid).collect();
    for _ in 0..rounds(5) {
        device
            .take(&pids, 0)
            .unwrap_or_else(|failed| panic!("{failed:?}"));
    }
    targets.iter().for_each(Target::assert_runs);
}

#[test]
fn targets_that_exit() {
    let device = Device::open();
    for _ in 0..rounds(20) {
        let target = Target::spawn("restless", &["exit"]);
        loop {
            match device.take(&[target.pid()], 0) {
                Ok(snapshot) => assert!(snapshot.take.counts.pages_armed > 0),
                Err(Failed { reason, .. }) => {
                    assert!(
                        [abi::REASON_EXITING, abi::REASON_NO_SUCH_PROCESS].contains(&reason),
                        "{reason}"
                    );
                    break;
                }
            }
        }
    }
    assert_eq!(device.open_snapshots(), 0);
}

#[test]
fn a_target_killed_in_the_stop_dies_after_it() {
    let device = Device::open();
    let target = oracle();
    let (_phase, _ms) = (
        Knob::set("test_hold_phase", Phase::Arm as i32),
        Knob::set("test_hold_ms", 500),
    );
    let pid = target.pid();
    let killer = std::thread::spawn(move || {
        while Knob::get("test_held") != Phase::Arm as i32 {
            sleep(Duration::from_millis(1));
        }
        drop(target);
    });
    let snapshot = device
        .take(&[pid], 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"));
    killer.join().expect("the target is reaped");
    assert!(
        snapshot.take.counts.pages_armed > 256,
        "its memory is held all the same"
    );
}

#[test]
fn the_module_stays_while_a_snapshot_is_open() {
    let target = oracle();
    let snapshot = Device::open()
        .take(&[target.pid()], 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"));
    let unload = || {
        Command::new("rmmod")
            .arg("freezeframe")
            .output()
            .expect("rmmod runs")
    };
    assert!(!unload().status.success(), "the module is in use");
    drop(snapshot);
    assert!(unload().status.success(), "and now it is not");
    let module = std::env::var("FF_MODULE").expect("the guest says where the module is");
    assert!(
        Command::new("insmod")
            .arg(module)
            .status()
            .expect("insmod runs")
            .success()
    );
    take_works(&target);
}
