//! Memory and disk are of one instant: what a process wrote with `O_DIRECT` lies on the frozen origin between the two counters that
//! its memory has of it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::disk::Disk;
use guest_tests::disk::base::Kind::Linear;
use guest_tests::disk::fs::Kind;
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::Snapshot;
use guest_tests::knob::Knob;
use guest_tests::memory::Memory as _;
use guest_tests::rounds_of;
use guest_tests::target::Target;
use snap_common::phase::Phase;

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

    /// Of each lane: what its memory says is there at least, what is there, and what its memory says is there at most. `None`: the
    /// origin cannot be read.
    fn lanes(&self, snapshot: &Snapshot) -> Option<Vec<[u64; 3]>> {
        let lanes = usize::try_from(self.0.at("lanes")).expect("a few");
        let memory = |name| snapshot.memory().words(self.0.pid(), self.0.at(name), lanes);
        let (behind, ahead) = (memory("behind"), memory("ahead"));
        let origin = snapshot.try_mount().ok()?;
        let file = File::open(format!("{}/joint", origin.dir)).ok()?;
        let lane = |lane: usize| {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, lane as u64 * 4096).ok()?;
            Some([behind[lane], u64::from_ne_bytes(word), ahead[lane]])
        };
        (0..lanes).map(lane).collect()
    }
}

/// What no lane looks like: the origin cannot be read.
const UNREADABLE: [u64; 3] = [0; 3];

/// The lanes, of so many snapshots, that were not of one instant.
///
/// The processes run for a while before the devices are switched: what holds their writes up until then is the frozen filesystem alone.
fn wrong(kind: Kind, rounds: usize) -> Vec<[u64; 3]> {
    let _hold = [
        Knob::set("test_hold_ms", 100),
        Knob::set("test_hold_phase", Phase::SwitchFs as i32),
    ];
    let disk = Disk::usual();
    let place = Place::new(&disk, Linear, kind);
    let mut joint = Joint(Target::spawn("joint", &[&place.mounted().path("joint")]));
    let pid = joint.0.pid();
    let mut wrong = Vec::new();
    for _ in 0..rounds {
        joint.goes_on();
        let snapshot = place.what(&[pid]).take();
        joint.goes_on();
        let lanes = joint.lanes(&snapshot).unwrap_or_else(|| vec![UNREADABLE]);
        wrong.extend(
            lanes
                .into_iter()
                .filter(|[behind, disk, ahead]| *behind == 0 || disk < behind || disk > ahead),
        );
        snapshot.commit();
    }
    wrong
}

#[test]
fn ext4_and_memory_are_of_one_instant() {
    assert_eq!(wrong(Kind::Ext4, rounds_of(2, 50)), [[0; 3]; 0]);
}

#[test]
fn xfs_and_memory_are_of_one_instant() {
    assert_eq!(wrong(Kind::Xfs, rounds_of(2, 50)), [[0; 3]; 0]);
}

#[test]
fn without_freezing_the_filesystem_they_are_not() {
    let _knob = Knob::set("test_no_freeze_fs", 1);
    for kind in [Kind::Ext4, Kind::Xfs] {
        let wrong = wrong(kind, 3);
        assert!(!wrong.is_empty(), "the check sees that {kind:?} was not frozen");
    }
}
