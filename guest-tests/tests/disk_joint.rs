//! Memory and disk are of one instant: what a process wrote with `O_DIRECT` lies on the frozen origin between the two counters that
//! its memory has of it.

use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::disk::Disk;
use guest_tests::disk::base::Kind::Linear;
use guest_tests::disk::fs::Kind;
use guest_tests::disk::origin::Origin;
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{Snapshot, said};
use guest_tests::knob::Knob;
use guest_tests::memory::Memory as _;
use guest_tests::rounds_of;
use guest_tests::target::Target;

/// A running `joint`.
struct Joint(Target);

impl Joint {
    fn goes_on(&mut self) {
        let mut now = || self.0.ask().trim().parse::<u64>().expect("a number");
        let until = now() + 50;
        while now() < until {
            sleep(Duration::from_millis(10));
        }
    }

    /// Of each lane: what its memory says is there at least, what is there, and what its memory says is there at most.
    fn lanes(&self, snapshot: &Snapshot, how: &[&str]) -> Vec<[u64; 3]> {
        let lanes = usize::try_from(self.0.at("lanes")).expect("a few");
        let memory = |name| snapshot.memory().words(self.0.pid(), self.0.at(name), lanes);
        let (behind, ahead) = (memory("behind"), memory("ahead"));
        let origin = Origin::mount(&snapshot.id, how).unwrap_or_else(|output| panic!("{}", said(&output)));
        let file = origin.open("joint");
        let lane = |lane: usize| {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, lane as u64 * 4096)
                .expect("it is readable");
            [behind[lane], u64::from_ne_bytes(word), ahead[lane]]
        };
        (0..lanes).map(lane).collect()
    }
}

/// The lanes, of so many snapshots, that were not of one instant. `how` the origins are mounted.
fn wrong(kind: Kind, rounds: usize, how: &[&str]) -> Vec<[u64; 3]> {
    let disk = Disk::usual();
    let place = Place::new(&disk, Linear, kind);
    let mut joint = Joint(Target::spawn("joint", &[&place.mounted().path("joint")]));
    let pid = joint.0.pid();
    let mut wrong = Vec::new();
    for _ in 0..rounds {
        joint.goes_on();
        let snapshot = place.what(&[pid]).take();
        joint.goes_on();
        let lanes = joint.lanes(&snapshot, how);
        assert!(lanes.iter().all(|[_, disk, _]| *disk > 0), "{lanes:?}");
        wrong.extend(
            lanes
                .into_iter()
                .filter(|[behind, disk, ahead]| disk < behind || disk > ahead),
        );
        snapshot.commit();
    }
    wrong
}

#[test]
fn ext4_and_memory_are_of_one_instant() {
    assert_eq!(wrong(Kind::Ext4, rounds_of(6, 50), &[]), [[0; 3]; 0]);
}

#[test]
fn xfs_and_memory_are_of_one_instant() {
    assert_eq!(wrong(Kind::Xfs, rounds_of(6, 50), &[]), [[0; 3]; 0]);
}

#[test]
fn without_freezing_the_filesystem_they_are_not() {
    let _knob = Knob::set("test_no_freeze_fs", 1);
    for kind in [Kind::Ext4, Kind::Xfs] {
        let wrong = wrong(kind, 4, &["--view"]);
        assert!(!wrong.is_empty(), "the check sees that {kind:?} was not frozen");
    }
}
