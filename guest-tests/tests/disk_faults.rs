//! Whatever dies or fails while a disk's half is taken, nobody hangs, no device stays suspended, and the filesystem is as it was.

use std::process::Command;
use std::thread::{sleep, spawn};
use std::time::Duration;

use guest_tests::device::Device;
use guest_tests::disk::base::Kind::LayerOnPartition;
use guest_tests::disk::base::fsfreeze;
use guest_tests::disk::fs::Kind;
use guest_tests::disk::held::{HeldTake, PHASES};
use guest_tests::disk::pair::Pair;
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{What, assert_nothing_left, assert_says, done, list, said};
use guest_tests::disk::{Disk, dm};
use guest_tests::knob::Knob;
use guest_tests::sectors::Mode;
use guest_tests::{rounds, sh};
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

/// A read that is under way keeps the device from being suspended for longer than the take waits for it.
#[test]
fn what_a_take_has_given_up_is_not_switched_later() {
    let disk = Disk::split(&[("data", 600), ("key", 700)]);
    let below = dm::linear("below", &disk.part("data"));
    let mount = Kind::Ext4.fresh(&dm::linear("data", &below), "data");
    let file = mount.path("file");
    sh(&format!(
        "dd if=/dev/urandom of={file} bs=1M count=1 conv=fsync status=none"
    ));
    let key = disk.part("key");
    let what = What {
        mounts: vec![&mount.dir],
        store: &key,
        more: vec!["--deadline", "1000"],
        ..What::default()
    };
    let held = HeldTake::at(Phase::SwitchFs, &what);
    let hangs = dm::Suspended::new("below");
    let mut reader = Command::new("dd")
        .args([&format!("if={file}"), "of=/dev/null", "iflag=direct"])
        .spawn()
        .expect("dd runs");
    sleep(Duration::from_millis(500));
    let output = held.let_go();
    drop(hangs);
    assert!(reader.wait().expect("it ends").success());
    mount.assert_writable();
    if output.status.success() {
        // Where it was suspended before.
        assert_eq!(dm::target("data"), "snapshot");
        done(&["commit", list()[0]["id"].as_str().expect("it has an id")]);
    } else {
        assert_says(&["take"], &output, &[&mount.dir, "deadline"]);
        sleep(Duration::from_secs(2));
        assert_eq!(dm::target("data"), "linear");
        // What was set up could not be taken down while the disk did not answer.
        for left in list() {
            assert_eq!(left["state"], "abandoned", "{left}");
            done(&["discard", left["id"].as_str().expect("it has an id")]);
        }
    }
    assert_nothing_left();
    assert!(list().is_empty());
    mount.assert_writable();
}

/// It passes somewhere in the freeze, the stop or the switch. What the take says is what is there, and nothing comes after it.
#[test]
fn a_deadline_that_is_too_short() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let mut writer = place.writer(Mode::Direct);
    for round in 0..rounds(20) {
        let deadline = (1 + round * 7 % 120).to_string();
        let what = What {
            more: vec!["--deadline", &deadline],
            ..place.what(&[writer.target.pid()])
        };
        match what.try_take() {
            Ok(snapshot) => {
                assert_eq!(dm::target(place.base.name()), "snapshot");
                snapshot.commit();
            }
            Err(output) => println!("{deadline} ms: {}", said(&output)),
        }
        let after = format!("after {deadline} ms");
        assert_eq!(dm::target(place.base.name()), "linear", "{after}");
        assert_nothing_left();
        assert!(list().is_empty(), "{after}");
        place.assert_well(&mut writer);
    }
    place.assert_all_there(writer);
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
    let mut writing = Command::new("touch")
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
