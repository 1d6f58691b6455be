//! stress-ng's workers.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_tests::device::Device;
use guest_tests::drift::Drift;
use guest_tests::image::Image;
use guest_tests::{patience, rounds, sh};

use crate::{assert_right, ways};

/// stress-ng with two workers that write patterns to their memory and look whether they stay.
pub struct StressNg(Child);

impl StressNg {
    pub fn start() -> Self {
        let arguments = "--vm 2 --vm-bytes 16M --vm-keep --verify --timeout 600 --oomable";
        let child = Command::new("stress-ng")
            .args(arguments.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the guest has stress-ng");
        Self(child)
    }

    /// Those that have the memory: children of the workers.
    pub fn workers(&self) -> Vec<i32> {
        let begin = Instant::now();
        loop {
            let parent = self.0.id();
            let found = sh(&format!(
                "for worker in $(pgrep -P {parent}); do pgrep -P $worker || true; done"
            ));
            let workers: Vec<_> = found.lines().map(|pid| pid.parse().expect("a pid")).collect();
            let large = |pid: &i32| {
                let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
                status
                    .split(' ')
                    .nth(1)
                    .is_some_and(|pages| pages.parse::<u64>().unwrap() > 2048)
            };
            if workers.len() >= 2 && workers.iter().all(large) {
                return workers;
            }
            assert!(
                begin.elapsed() < patience(60),
                "its workers do not start: {workers:?}"
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it; it must have found no error.
    pub fn assert_verified(mut self) {
        // SAFETY: no memory is involved; it is our child, and not reaped yet.
        unsafe { libc::kill(i32::try_from(self.0.id()).expect("small"), libc::SIGINT) };
        let mut said = String::new();
        for pipe in [
            Box::new(self.0.stdout.take().expect("piped")) as Box<dyn std::io::Read>,
            Box::new(self.0.stderr.take().expect("piped")),
        ] {
            let mut pipe = pipe;
            pipe.read_to_string(&mut said).expect("it is text");
        }
        let status = self.0.wait().expect("it ends");
        println!("{said}");
        assert!(status.success() && !said.contains("fail"), "{status}: {said}");
    }
}

#[test]
fn workers_that_verify_their_memory_find_it_as_it_was() {
    let ng = StressNg::start();
    let mut drift = Drift::spawn("/sys/fs/cgroup");
    for round in 0..rounds(1) {
        for how in ways() {
            let mut pids = ng.workers();
            pids.push(drift.target.pid());
            let taken = Device::open().take_how(&pids, how);
            let snapshot = taken.unwrap_or_else(|failed| panic!("{how:?}: {failed:?}"));
            let image = Image::open(&snapshot.file);
            for pid in &pids {
                assert_eq!(image.process(*pid).pid, *pid);
            }
            assert_right(&mut drift, &snapshot, &format!("round {round}, {how:?}"));
        }
    }
    ng.assert_verified();
}
