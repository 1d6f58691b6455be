//! Read-only for the instant.

use std::fs;

use guest_tests::disk::MOUNTS;
use guest_tests::disk::dm::wait_until;
use guest_tests::disk::held::{HeldTake, PHASES};
use guest_tests::disk::snapshot::{What, assert_says, refused, said};
use guest_tests::knob::Knob;
use guest_tests::sh;
use serde_json::Value;
use snap_common::phase::Phase;

use crate::{EBADF, Place};

const ETXTBSY: &str = "26";
const EROFS: &str = "30";

/// In which descriptors are downgraded when a phase of them begins.
const FROZEN: [Phase; 4] = [Phase::FreezeTasks, Phase::Arm, Phase::ThawTasks, Phase::ThawFs];

/// Whether a filesystem does not become read-only, because somebody writes to it.
fn is_kept_writable(dir: &str) -> bool {
    let remount = ["-o", "remount,ro", dir];
    let output = std::process::Command::new("mount")
        .args(remount)
        .output()
        .unwrap();
    !output.status.success()
}

fn read_only(output: &Value) -> &Value {
    &output["disk"]["filesystems"][0]["read_only"]
}

#[test]
fn descriptors_lose_their_write_access_for_the_instant_and_no_longer() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file", "other"]);
    sh(&format!("cp /bin/true {}", place.path("program")));
    let mut of_program = place.scribe(&["program"]);
    let held = HeldTake::at(Phase::FreezeTasks, &place.what());
    scribe.assert_downgraded();
    assert_eq!(scribe.tell(&format!("open {}", place.path("file"))), EROFS);
    // The file still counts as one that is written to.
    assert_eq!(scribe.tell(&format!("run {}", place.path("program"))), ETXTBSY);
    assert_eq!(scribe.tell("close 1"), "0");
    let output = held.let_go();
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read_only(&report)["downgraded"], 3, "{report}");
    assert_eq!(read_only(&report)["unseen"], 0, "{report}");
    let writers = read_only(&report)["writers"].as_array().unwrap();
    let pid = scribe.0.pid();
    let of_scribe = |writer: &&Value| writer["pid"] == pid && writer["path"] == place.path("file").as_str();
    let writer = writers.iter().find(of_scribe).unwrap();
    assert_eq!(writer["name"], "scribe");
    assert!(writer["fd"].as_i64().unwrap() > 2);
    scribe.assert_writes();
    assert_eq!(of_program.tell("write 0"), "0");
    assert_eq!(scribe.tell(&format!("run {}", place.path("program"))), ETXTBSY);
    drop(of_program);
    assert_eq!(scribe.tell(&format!("open {}", place.path("file"))), "0");
    assert!(is_kept_writable(&place.0));
    drop(scribe);
    place.assert_goes();
}

#[test]
fn without_it_a_new_mapping_is_stored_through_in_the_instant() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    let _knob = Knob::set("test_no_readonly", 1);
    let held = HeldTake::at(Phase::FreezeTasks, &place.what());
    let before = fs::read(place.path("file")).unwrap();
    assert_eq!(scribe.tell("map 0"), "0");
    assert_eq!(scribe.tell("store 0"), "0");
    assert_ne!(
        fs::read(place.path("file")).unwrap(),
        before,
        "the check sees stores"
    );
    assert!(held.let_go().status.success());
}

#[test]
fn mappings_from_before_are_counted() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file", "other"]);
    for command in ["map 0", "map 1", "close 1"] {
        assert_eq!(scribe.tell(command), "0");
    }
    let snapshot = place.what().take();
    let read_only = read_only(&snapshot.report);
    assert_eq!(read_only["mappings"], 2, "{read_only}");
    assert_eq!(read_only["downgraded"], 1, "{read_only}");
    assert_eq!(read_only["unseen"], 1, "{read_only}");
    scribe.assert_writes();
    drop(scribe);
    place.assert_goes();
}

#[test]
fn whoever_dies_or_fails_all_is_as_before() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    for phase in PHASES {
        if phase == Phase::SwitchFs {
            continue; // there is nothing to switch
        }
        let held = HeldTake::at(phase, &place.what());
        if FROZEN.contains(&phase) {
            scribe.assert_downgraded();
        }
        held.kill();
        wait_until("the descriptor to be as it was", || scribe.tell("write 0") == "0");
        scribe.assert_writes();
        let _knob = Knob::set("test_fail_phase", phase as i32);
        assert!(place.what().try_take().is_err(), "{}", phase.name());
        scribe.assert_writes();
    }
    assert!(is_kept_writable(&place.0));
    drop(scribe);
    place.assert_goes();
}

#[test]
fn a_take_that_outlives_its_deadline_gives_all_back() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    let what = What {
        more: vec!["--unfreezable", "remount-ro", "--deadline", "500"],
        ..place.what()
    };
    let held = HeldTake::at(Phase::FreezeTasks, &what);
    scribe.assert_downgraded();
    wait_until("the deadline", || scribe.tell("write 0") == "0");
    scribe.assert_writes();
    let output = held.let_go();
    assert_says(&["take"], &output, &["deadline"]);
    drop(scribe);
    place.assert_goes();
}

#[test]
fn the_files_of_those_that_stand_still_are_given_back_too() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    let mut what = place.what();
    what.pids = vec![scribe.0.pid()];
    for _ in 0..guest_tests::rounds(10) {
        let snapshot = what.take();
        assert_eq!(read_only(&snapshot.report)["downgraded"], 1);
        scribe.assert_writes();
    }
    drop(scribe);
    place.assert_goes();
}

#[test]
fn many_descriptors_are_counted_and_some_named() {
    let place = Place::tmpfs("shm");
    let names: Vec<_> = (0..900).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut scribe = place.scribe(&names);
    let snapshot = place.what().take();
    let read_only = read_only(&snapshot.report);
    assert_eq!(read_only["downgraded"], 900);
    assert_eq!(read_only["writers"].as_array().unwrap().len(), 50);
    assert_eq!(read_only["more_writers"], 850);
    assert_eq!(scribe.tell("write 899"), "0");
    drop(scribe);
    place.assert_goes();
}

#[test]
fn an_overlay_on_a_tmpfs_is_read_only_with_it() {
    let upper = Place::tmpfs("upper");
    let over = Place(format!("{MOUNTS}/over"));
    sh(&format!(
        "mkdir -p {0}/l {0}/u {0}/w {1}; echo some text >{0}/l/file
         mount -t overlay -o lowerdir={0}/l,upperdir={0}/u,workdir={0}/w over {1}",
        upper.0, over.0
    ));
    let mut scribe = over.scribe(&["file"]);
    let held = HeldTake::at(Phase::FreezeTasks, &over.what());
    scribe.assert_downgraded();
    let output = held.let_go();
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<_> = report["disk"]["filesystems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(kinds, ["overlay", "tmpfs"]);
    scribe.assert_writes();
    drop(scribe);
    over.assert_goes();
    upper.assert_goes();
}

#[test]
fn what_a_process_serves_is_read_only_too() {
    let fuse = Place(format!("{MOUNTS}/fuse"));
    sh(&format!(
        "modprobe -q fuse || true # where it is built in
         mkdir -p {0}; truncate -s 32M /tmp/disk-fuse.img; mkfs.ext4 -q -F /tmp/disk-fuse.img
         fuse2fs -o rw,fakeroot /tmp/disk-fuse.img {0}",
        fuse.0
    ));
    let mut scribe = fuse.scribe(&["file"]);
    for command in ["write 0", "pwrite 0"] {
        assert_eq!(scribe.tell(command), "0");
    }
    let held = HeldTake::at(Phase::FreezeTasks, &fuse.what());
    assert_eq!(scribe.tell("write 0"), EBADF);
    assert_eq!(scribe.tell("read 0"), "0");
    assert!(held.let_go().status.success());
    assert_eq!(scribe.tell("write 0"), "0");
    // With its server among those that stand still.
    let mut what = fuse.what();
    what.pids = vec![sh("pidof fuse2fs").trim().parse().unwrap()];
    let _snapshot = what.take();
    assert_eq!(scribe.tell("write 0"), "0");
    drop(scribe);
    sh(&format!("umount {}", fuse.0));
    std::mem::forget(fuse);
}

#[test]
fn what_cannot_be_read_only_is_refused() {
    let place = Place::tmpfs("shm");
    refused(
        &["take", "--no-daemon", "--fs", &place.0],
        &["cannot freeze", "tmpfs", "--unfreezable remount-ro"],
    );
    for dir in ["/proc", "/sys", "/dev"] {
        refused(
            &["take", "--no-daemon", "--fs", dir, "--unfreezable", "remount-ro"],
            &["cannot freeze", dir, "leave it out"],
        );
    }
    place.assert_goes();
}
