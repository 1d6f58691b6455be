//! Whatever dies or fails while a disk's half is taken, nobody hangs, no device stays suspended, and the filesystem is as it was.

use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::Duration;

use guest_tests::device::Device;
use guest_tests::disk::base::Kind::{LayerOnPartition, Linear};
use guest_tests::disk::base::fsfreeze;
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::held::{HeldTake, PHASES};
use guest_tests::disk::pair::Pair;
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{What, assert_nothing_left, assert_says, done, list, said};
use guest_tests::disk::{Disk, dm};
use guest_tests::knob::Knob;
use guest_tests::sectors::{Floor, Grain, Mode, Writer};
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

/// The power fails: whatever is written to the tops from now on comes to nothing, and they are gone.
fn power_fails(tops: &[&str], unmount: impl FnOnce()) {
    for top in tops {
        let sectors = dm::sectors(&format!("/dev/mapper/{top}"));
        dm::replace(top, &format!("0 {sectors} error"));
    }
    unmount();
    for top in tops {
        sh(&format!("dmsetup remove --retry {top}"));
    }
}

/// The rest of it, and the first `layer up` of the boot.
fn boot() {
    for part in dm::named("ff-") {
        sh(&format!("dmsetup remove --retry {part}"));
    }
    sh("rm -f /run/freezeframe/layers-up");
    done(&["layer", "up"]);
}

/// A take was killed before it could write that it had switched.
fn assert_armed(store: &str) {
    sh(&format!(
        "dd if={store} bs=64K count=2 iflag=direct status=none | grep -a -c '\"state\":\"armed\"'"
    ));
}

/// The only snapshot there is, which runs and is kept.
fn kept() -> String {
    let all = list();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["state"], "active", "{all:?}");
    assert_eq!(all[0]["at_shutdown"], "keep", "{all:?}");
    all[0]["id"].as_str().expect("it has an id").to_owned()
}

#[test]
fn a_crash_behind_the_switch_of_tops_that_are_no_layers() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, Linear, Kind::Ext4);
    let mut writer = place.writer(Mode::Direct);
    writer.goes_on(50);
    HeldTake::at(Phase::Finalize, &place.what(&[writer.target.pid()])).kill();
    writer.goes_on(50);
    let must = writer.live(Floor::Flushed).or_newer();
    drop(writer);
    assert_armed(&place.store);
    power_fails(&["data"], || place.unmount());
    let _ = dm::linear("data", &disk.part("data"));
    boot();
    assert_eq!(dm::target("data"), "snapshot");
    let id = kept();
    let assert_there = |place: &Place| {
        let wrong = must.wrong(&place.mounted().open("direct"), Grain::Sector);
        assert_eq!(wrong, [""; 0]);
    };
    place.remount();
    assert_there(&place);
    done(&["commit", &id]);
    assert_eq!(dm::target("data"), "linear");
    place.mounted().again();
    assert_there(&place);
    assert_nothing_left();
}

/// They were switched together, so they are discarded together.
#[test]
fn a_crash_behind_the_switch_before_all_are_written_to() {
    const NAMES: [&str; 2] = ["one", "other"];
    const TOPS: [&str; 2] = ["ff-one", "ff-other"];
    let disk = Disk::split(&[("one", 300), ("other", 300), ("key", 700)]);
    let store = disk.part("key");
    let mount = |name: &str| Mount::new(&format!("/dev/mapper/ff-{name}"), name);
    let write = |mount: &Mount, text: &str| {
        sh(&format!("echo {text} >{0}; sync -f {0}", mount.path("file")));
    };
    let read = |mount: &Mount| sh(&format!("cat {}", mount.path("file")));
    let mounts = NAMES.map(|name| {
        done(&["layer", "add", &disk.part(name), "--name", name]);
        let mount = Kind::Ext4.fresh(&format!("/dev/mapper/ff-{name}"), name);
        write(&mount, "before");
        mount
    });
    let mut writer = Writer::spawn(&mounts[0].path("writer"), Mode::Direct, 64);
    writer.goes_on(50);
    let what = What {
        pids: vec![writer.target.pid()],
        mounts: mounts.iter().map(|mount| mount.dir.as_str()).collect(),
        store: &store,
        ..What::default()
    };
    HeldTake::at(Phase::Finalize, &what).kill();
    drop(writer);
    write(&mounts[0], "after");
    assert_armed(&store);
    let snapshot = list().remove(0);
    power_fails(&TOPS, || drop(mounts));
    // As if what the thaw writes to the second had not reached its slice.
    let devices = snapshot["devices"].as_array().expect("a list");
    let second = devices.iter().position(|device| device["top"] == TOPS[1]);
    sh(&format!(
        "dd if=/dev/zero of=/dev/mapper/ff-store-{}-{} bs=4k count=1 oflag=direct conv=fsync status=none",
        snapshot["id"].as_str().expect("it has an id"),
        second.expect("it is there")
    ));
    boot();
    assert_eq!(TOPS.map(dm::target), ["snapshot"; 2]);
    let id = kept();
    let mounts = NAMES.map(mount);
    assert_eq!([&mounts[0], &mounts[1]].map(read), ["after\n", "before\n"]);
    write(&mounts[1], "later");
    drop(mounts);
    done(&["discard", &id]);
    let mounts = NAMES.map(mount);
    assert_eq!([&mounts[0], &mounts[1]].map(read), ["before\n"; 2]);
    assert_nothing_left();
}

/// What it would have made of the snapshot then, nobody knows: it stays, at a shutdown as well.
#[test]
fn a_controller_killed_while_it_writes_the_image() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let mut writer = place.writer(Mode::Direct);
    let pid = writer.target.pid().to_string();
    let mut take = Command::new("freezeframe")
        .args(["take", "--no-daemon", "--pid", &pid, "--fs", &place.mounted().dir])
        .args(["--snapblockdev", &place.store, "-o", "-"])
        .stdout(Stdio::piped()) // which nobody reads
        .spawn()
        .expect("freezeframe runs");
    dm::wait_until("the switch", || dm::target(place.base.name()) == "snapshot");
    let state = || list().first().map(|snapshot| snapshot["state"].clone());
    dm::wait_until("the snapshot", || state() == Some("active".into()));
    sleep(Duration::from_millis(500));
    assert!(
        take.try_wait().expect("it is ours").is_none(),
        "it is not through"
    );
    take.kill().expect("it is ours");
    take.wait().expect("it is ours");
    place.assert_well(&mut writer);
    let left = list();
    assert_eq!(
        (&left[0]["state"], &left[0]["at_shutdown"]),
        (&"active".into(), &"keep".into())
    );
    assert_eq!(Device::open().open_snapshots(), 0);
    done(&["commit", left[0]["id"].as_str().expect("it has an id")]);
    assert_nothing_left();
    place.assert_well(&mut writer);
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
