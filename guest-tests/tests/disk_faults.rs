//! Whatever dies or fails while a disk's half is taken, nobody hangs, no device stays suspended, and the filesystem is as it was.

use std::thread::{sleep, spawn};
use std::time::Duration;

use guest_tests::device::Device;
use guest_tests::disk::base::Kind::LayerOnPartition;
use guest_tests::disk::base::fsfreeze;
use guest_tests::disk::fs::Kind;
use guest_tests::disk::held::{HeldTake, PHASES};
use guest_tests::disk::pair::Pair;
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{What, assert_nothing_left, assert_says, done, list};
use guest_tests::disk::{Disk, dm};
use guest_tests::knob::Knob;
use guest_tests::rounds;
use guest_tests::sectors::Mode;
use snap_common::phase::Phase;

/// What a killed take left: a snapshot that is active, one that was abandoned, or none. It is done with, under the writer.
fn finish_what_is_left(place: &Place, phase: Phase) {
    let left = list();
    assert!(left.len() <= 1, "{left:?}");
    let switched = dm::target(place.base.name()) == "snapshot";
    if phase != Phase::SwitchFs {
        assert_eq!(switched, phase > Phase::SwitchFs, "killed in {}", phase.name());
    }
    if let Some(snapshot) = left.first() {
        let id = snapshot["id"].as_str().expect("it has an id");
        let state = if switched { "active" } else { "abandoned" };
        assert_eq!(snapshot["state"], state, "{snapshot}");
        done(&[if switched { "commit" } else { "discard" }, id]);
    } else {
        assert!(!switched, "it is switched, and not listed");
    }
    assert_nothing_left();
    assert!(list().is_empty());
}

#[test]
fn a_controller_killed_in_any_phase_leaves_nothing_frozen() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let mut writer = place.writer(Mode::Direct);
    for phase in PHASES {
        for _ in 0..rounds(1) {
            HeldTake::at(phase, &place.what(&[writer.target.pid()])).kill();
            place.assert_well(&mut writer);
            finish_what_is_left(&place, phase);
            place.assert_well(&mut writer);
        }
    }
    place.assert_all_there(writer);
}

#[test]
fn a_failure_in_any_phase_unwinds() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let disk = Disk::usual();
        let mut place = Place::new(&disk, LayerOnPartition, kind);
        let mut writer = place.writer(Mode::Direct);
        for phase in PHASES {
            let knob = Knob::set("test_fail_phase", phase as i32);
            let what = place.what(&[writer.target.pid()]);
            let Err(output) = what.try_take() else {
                panic!("{} was to fail", phase.name())
            };
            assert_says(&[phase.name()], &output, &[]);
            drop(knob);
            // What was switched has been committed by the controller itself.
            assert_eq!(dm::target(place.base.name()), "linear", "{}", phase.name());
            assert_nothing_left();
            assert!(list().is_empty(), "{}", phase.name());
            place.assert_well(&mut writer);
        }
        place.assert_all_there(writer);
    }
}

#[test]
fn a_disk_that_hangs_keeps_no_other_filesystem_frozen() {
    let mut pair = Pair::new();
    let module = Device::open();
    // The first freezes and thaws by writing to its disk. After a switch, the commit would wake that.
    for (phase, store) in [
        (Phase::FreezeFs, pair.key.as_str()),
        (Phase::FreezeFs, ""),
        (Phase::ThawFs, ""),
    ] {
        pair.writer.goes_on(50);
        let what = What {
            mounts: vec![&pair.one.dir, &pair.other.dir],
            store,
            more: vec!["--deadline", "2000"],
            ..What::default()
        };
        let mut held = HeldTake::at(phase, &what);
        let hangs = if phase == Phase::FreezeFs {
            pair.hangs(&mut held)
        } else {
            let hangs = dm::Suspended::new("one");
            held.goes_on();
            hangs
        };
        // Long before the disk answers.
        pair.writer.goes_on(50);
        assert_says(&["take"], &held.let_go(), &[&pair.one.dir, "deadline"]);
        pair.writer.goes_on(50);
        drop(hangs);
        pair.one.assert_writable();
        dm::wait_until("the end of the snapshot", || module.open_snapshots() == 0);
        assert_nothing_left();
        assert!(list().is_empty());
        assert_eq!(["one", "other"].map(dm::target), ["linear"; 2]);
    }
}

#[test]
fn a_filesystem_that_is_frozen_already() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let mut writer = place.writer(Mode::Direct);
    assert!(fsfreeze("-f", &place.mounted().dir).status.success());
    let taken = place.what(&[writer.target.pid()]).try_take();
    // Whoever froze it has it frozen still.
    let before = writer.says();
    let mut writing = std::process::Command::new("touch")
        .arg(place.mounted().path("touched"))
        .spawn()
        .expect("touch runs");
    sleep(Duration::from_secs(3));
    let written = writing.try_wait().expect("it can be asked");
    assert!(written.is_none(), "it was thawed");
    assert_eq!(writer.says(), before);
    assert!(fsfreeze("-u", &place.mounted().dir).status.success());
    assert!(writing.wait().expect("it ends").success());
    match taken {
        // Since 6.6 freezes nest.
        Ok(snapshot) => snapshot.commit(),
        Err(output) => {
            assert_says(&["take"], &output, &[&place.mounted().dir, "fsfreeze -u"]);
            assert_nothing_left();
        }
    }
    place.assert_well(&mut writer);
    place.assert_all_there(writer);
}

#[test]
fn a_filesystem_that_somebody_thaws_meanwhile() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let mut writer = place.writer(Mode::Direct);
    for phase in [Phase::FreezeTasks, Phase::Arm, Phase::ThawTasks] {
        let held = HeldTake::at(phase, &place.what(&[writer.target.pid()]));
        let dir = place.mounted().dir.clone();
        // Where the device is suspended by now, a thaw waits for the switch.
        let thaw = spawn(move || fsfreeze("-u", &dir).status.success());
        sleep(Duration::from_millis(500));
        let output = held.let_go();
        let thawed = thaw.join().expect("it ends");
        if output.status.success() {
            let id = list()[0]["id"].clone();
            done(&["commit", id.as_str().expect("it has an id")]);
        } else {
            assert!(thawed, "{output:?}");
            assert_says(&["take"], &output, &[&place.mounted().dir]);
            assert_nothing_left();
        }
        place.assert_well(&mut writer);
    }
    place.assert_all_there(writer);
}
