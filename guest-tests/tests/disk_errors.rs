//! Devices that fail or go away while a disk's half is taken or merged: nobody hangs, no device stays suspended, and whoever was told
//! that something is on the disk finds it there when the devices work again.

use guest_tests::disk::base::Base;
use guest_tests::disk::base::Kind::{LayerOnPartition, Linear};
use guest_tests::disk::fs::Kind;
use guest_tests::disk::held::HeldTake;
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{What, assert_nothing_left, assert_says, done, list, said};
use guest_tests::disk::{Disk, dm};
use guest_tests::sectors::{Floor, Grain, Mode};
use guest_tests::{controller::freezeframe, few, sh};
use snap_common::phase::Phase;

/// In which something is written or read beneath.
const PHASES: [Phase; 3] = [Phase::SwitchFs, Phase::FreezeFs, Phase::ThawFs];

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Every request.
    Everything,
    /// Every write.
    Writes,
}

/// The device fails while the take is held, and works again when the take is over.
fn check(device: &str, phase: Phase, failure: Failure) {
    let disk = Disk::usual();
    // Both can be made to fail.
    let under = dm::linear("under", &disk.part("data"));
    let key = dm::linear("key", &disk.part("key"));
    let mut place = Place::on(Base::on(Linear, &under), Kind::Ext4, key);
    let mut writer = place.writer(Mode::Direct);
    writer.goes_on(100);
    let must = writer.live(Floor::Flushed).or_newer();
    // Whoever holds the take may be slow, on the debug kernel: that is no error of a device.
    let what = What {
        more: vec!["--deadline", "60000"],
        ..place.what(&[writer.target.pid()])
    };
    let held = HeldTake::at(phase, &what);
    let works = dm::table(device);
    let fails = match failure {
        Failure::Everything => {
            let sectors = dm::sectors(&format!("/dev/mapper/{device}"));
            format!("0 {sectors} error")
        }
        // Never up, and down for as long as it takes.
        Failure::Writes => format!("{} 0 3600 1 error_writes", works.replace("linear", "flakey")),
    };
    dm::replace(device, &fails);
    let output = held.let_go();
    if !output.status.success() {
        // What it was about, and where to look or what to call.
        let said = said(&output);
        println!("{device} failed in {}: {said}", phase.name());
        let one_of = |words: &[&str]| words.iter().any(|word| said.contains(word));
        assert!(
            one_of(&[&place.mounted().dir, place.base.name(), "/dev/mapper/key"]),
            "{said}"
        );
        assert!(one_of(&["dmesg", "freezeframe commit"]), "{said}");
    }
    // Long enough for the writer to meet what fails.
    std::thread::sleep(std::time::Duration::from_secs(1));
    dm::replace(device, &works);
    dm::assert_all_live();
    drop(writer);
    // A filesystem that met an error may be read-only by now, and a store may be invalid; so it is done with as one who has to.
    let mut unmounted = false;
    for snapshot in list() {
        let id = snapshot["id"].as_str().expect("it has an id");
        if !freezeframe(&["commit", id]).status.success() {
            if !unmounted {
                place.unmount();
                unmounted = true;
            }
            done(&["discard", id]);
        }
    }
    assert_nothing_left();
    assert!(list().is_empty());
    place.unmount();
    sh(&format!(
        "e2fsck -f -y {} >/dev/null || test $? = 1",
        place.base.node
    ));
    place.remount();
    let wrong = must.wrong(&place.mounted().open("direct"), Grain::Sector);
    assert_eq!(wrong, [""; 0], "{device} failed in {}: {output:?}", phase.name());
    place.mounted().assert_writable();
}

#[test]
fn the_device_beneath_the_origin_fails() {
    for phase in few(&PHASES, 2) {
        check("under", *phase, Failure::Everything);
    }
}

#[test]
fn the_device_beneath_the_store_fails() {
    for phase in few(&PHASES, 1) {
        check("key", *phase, Failure::Everything);
    }
}

#[test]
fn the_devices_do_not_take_writes() {
    for device in ["under", "key"] {
        check(device, Phase::SwitchFs, Failure::Writes);
    }
}

/// What does not merge any more has not been merged for that.
#[test]
fn a_commit_whose_top_is_taken_away_goes_on_later() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let path = place.mounted().path("large");
    sh(&format!(
        "dd if=/dev/zero of={path} bs=1M count=32 conv=fsync status=none"
    ));
    let snapshot = place.what(&[]).take();
    // Every other chunk: each is merged by itself, and that takes its time.
    sh(&format!(
        "fio --name=write --filename={path} --ioengine=psync --direct=1 --allow_file_create=0 --overwrite=1 --end_fsync=1 \
         --output=/dev/null --rw=write:4k --bs=4k --size=32M"
    ));
    let sum = sh(&format!("sha1sum {path}"));
    place.unmount();
    let commit = std::process::Command::new("freezeframe")
        .args(["commit", &snapshot.id])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("freezeframe runs");
    dm::wait_until("the merge", || dm::target("ff-data") == "snapshot-merge");
    sh("dmsetup remove --retry ff-data");
    let output = commit.wait_with_output().expect("it is ours");
    assert_says(
        &["commit"],
        &output,
        &[&snapshot.id, "ff-data is not there", "freezeframe layer up"],
    );
    assert_eq!(snapshot.listed()["state"], "interrupted");
    done(&["layer", "up"]);
    assert_eq!(dm::target("ff-data"), "snapshot-merge");
    snapshot.commit();
    place.remount();
    assert_eq!(sh(&format!("sha1sum {path}")), sum);
    place.unmount();
    place.kind.check(&place.base.node);
}
