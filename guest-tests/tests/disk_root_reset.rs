//! A root on our layer through shutdowns and crashes: each boot of the guest is one step.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use guest_tests::disk::dm::wait_until;
use guest_tests::disk::root::{DIR, assert_on_the_layer, drop_caches, take_all, target};
use guest_tests::disk::snapshot::{assert_nothing_left, done, list};
use guest_tests::disk::{Disk, fs::Kind};
use guest_tests::sh;

const PARTS: [(&str, u32); 2] = [("key", 3000), ("notes", 16)];

/// The last record that is on the root for sure.
static RECORDS: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_root_goes_through_shutdown_and_crashes() {
    let boot = std::env::var("FF_BOOT").expect("the guest counts its boots");
    println!("boot {boot}");
    assert_on_the_layer();
    match boot.as_str() {
        "1" => a_journal(),
        "2" => a_shutdown(&found()),
        "3" => {
            let disk = found();
            after_the_shutdown();
            a_crash(&disk);
        }
        "4" => {
            let disk = found();
            after_the_crash(&disk);
            a_crash_of_a_commit(&disk);
        }
        "5" => after_that_crash(&found()),
        other => panic!("boot {other} was not to be"),
    }
}

fn found() -> Disk {
    Disk::found(&PARTS.map(|(name, _)| name))
}

/// What boots again is this test; said before a snapshot, for whoever looks is the root of after the boot.
fn will_reset() {
    let boot = std::env::var("FF_BOOT").unwrap_or_default();
    sh(&format!("dmesg >/out/dmesg.{boot}.txt; touch /ff/again; sync"));
}

fn reset() -> ! {
    fs::write("/proc/sysrq-trigger", "b").expect("root may");
    loop {
        sleep(Duration::from_secs(1));
    }
}

/// The service at boot, on the mounted root.
fn service() {
    done(&["layer", "up"]);
}

/// The guest's image has no journal, and a crash is to be survived.
fn a_journal() {
    let _disk = Disk::split(&PARTS);
    sh("tune2fs -O has_journal /dev/mapper/ff-root >/dev/null");
    will_reset();
    sh("mount -o remount,ro /");
    reset();
}

fn write(name: &str, text: &str) {
    let mut file = File::create(format!("{DIR}/{name}")).expect("the root is writable");
    file.write_all(text.as_bytes()).expect("the root is writable");
    file.sync_all().expect("the root is writable");
}

fn a_shutdown(disk: &Disk) {
    assert!(sh("dumpe2fs -h /dev/mapper/ff-root 2>/dev/null").contains("has_journal"));
    write("before", "before");
    will_reset();
    let _snapshot = take_all(&disk.part("key"), &[]);
    write("after", "after");
    done(&["layer", "down"]);
    sh("mount -o remount,ro /");
    done(&["layer", "down", "--root"]);
    assert_eq!(target(), "snapshot", "it stays in use until the end");
    reset();
}

fn after_the_shutdown() {
    assert_eq!(target(), "linear");
    assert!(fs::exists(format!("{DIR}/before")).expect("the root is readable"));
    assert!(!fs::exists(format!("{DIR}/after")).expect("the root is readable"));
    service();
    assert_eq!(list(), [serde_json::Value::Null; 0]);
    assert!(!fs::exists("/etc/freezeframe/active/ff-root").expect("the root is readable"));
    assert_nothing_left();
}

/// Writes record after record to a file of the root; how many are there for sure stands on a disk of its own.
fn keep_records(notes: &str) {
    let mut log = File::create(format!("{DIR}/records")).expect("the root is writable");
    let notes = File::options()
        .write(true)
        .custom_flags(libc::O_DSYNC)
        .open(notes)
        .expect("it is there");
    for number in 1_u64.. {
        writeln!(log, "{number}").expect("the root is writable");
        log.sync_data().expect("the root is writable");
        notes
            .write_all_at(&number.to_le_bytes(), 0)
            .expect("it is writable");
        RECORDS.store(number, Ordering::SeqCst);
    }
}

fn records_go_on(count: u64) {
    let until = RECORDS.load(Ordering::SeqCst) + count;
    wait_until("the next records", || RECORDS.load(Ordering::SeqCst) >= until);
}

fn assert_records(disk: &Disk) {
    let notes = File::open(disk.part("notes")).expect("it is there");
    let mut number = [0; 8];
    notes.read_exact_at(&mut number, 0).expect("it is readable");
    let kept = u64::from_le_bytes(number);
    assert!(kept > 0);
    let log = fs::read_to_string(format!("{DIR}/records")).expect("it is there");
    let found: Vec<u64> = log.lines().map_while(|line| line.parse().ok()).collect();
    let there = found.len() as u64;
    assert!(found.iter().copied().eq(1..=there), "the records are in order");
    assert!(there >= kept, "{there} of {kept} records are there");
}

fn a_crash(disk: &Disk) {
    let notes = disk.part("notes");
    std::thread::spawn(move || keep_records(&notes));
    records_go_on(50);
    write("before", "once more");
    will_reset();
    let _snapshot = take_all(&disk.part("key"), &[]);
    write("after", "after");
    records_go_on(200);
    reset();
}

fn state() -> String {
    let list = list();
    assert_eq!(list.len(), 1, "{list:?}");
    list[0]["state"].as_str().expect("it has a state").to_owned()
}

fn id() -> String {
    list()[0]["id"].as_str().expect("it has an ID").to_owned()
}

fn after_the_crash(disk: &Disk) {
    assert_eq!(target(), "snapshot");
    service();
    assert_eq!(state(), "active");
    let check = || {
        assert_records(disk);
        for (name, text) in [("before", "once more"), ("after", "after")] {
            let found = fs::read_to_string(format!("{DIR}/{name}"));
            assert_eq!(found.expect("it was flushed"), text);
        }
    };
    check();
    done(&["commit", &id()]);
    assert_eq!(target(), "linear");
    drop_caches();
    check();
    assert_nothing_left();
}

fn a_crash_of_a_commit(disk: &Disk) {
    will_reset();
    let snapshot = take_all(&disk.part("key"), &[]);
    sh(&format!(
        "dd if=/dev/urandom of={DIR}/much bs=1M count=150 conv=fsync status=none; sha1sum {DIR}/much >{DIR}/sum; sync"
    ));
    let mut commit = Command::new("freezeframe")
        .args(["commit", &snapshot.id])
        .spawn()
        .expect("freezeframe runs");
    wait_until("the merge", || target() == "snapshot-merge");
    assert!(commit.try_wait().expect("it is ours").is_none());
    reset();
}

fn after_that_crash(disk: &Disk) {
    assert_eq!(target(), "snapshot-merge");
    service();
    let state = state();
    assert!(["merging", "interrupted"].contains(&state.as_str()), "{state}");
    sh(&format!("sha1sum --quiet -c {DIR}/sum"));
    done(&["commit", &id()]);
    assert_eq!(target(), "linear");
    drop_caches();
    sh(&format!("sha1sum --quiet -c {DIR}/sum"));
    assert_nothing_left();

    // After all of that, the filesystem is sound.
    let snapshot = take_all(&disk.part("key"), &[]);
    Kind::Ext4.check(&snapshot.device());
    snapshot.commit();
}
