//! The room for what is written while a snapshot is there: too little of it, more of it, and what is no part of the snapshot.

use std::process::{Command, Stdio};

use guest_tests::disk::base::Kind::LayerOnPartition;
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{Snapshot, done, refused};
use guest_tests::disk::{Disk, dm};
use guest_tests::memory::Cores;
use guest_tests::sectors::{Floor, Mode};
use guest_tests::sh;
use serde_json::Value;

/// A filesystem, and a store of 40 MiB that can grow to 300.
fn with_little_room() -> (Disk, Place) {
    let disk = Disk::split(&[("data", 900), ("key", 400)]);
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let part = disk.part("key");
    place.store = dm::create("key", &format!("0 {} linear {part} 0", 40 << 11));
    (disk, place)
}

/// The store's device is larger now.
fn grow(disk: &Disk) {
    let part = disk.part("key");
    dm::replace("key", &format!("0 {} linear {part} 0", 300 << 11));
}

/// A snapshot on a store of 40 MiB that can grow to 300, and a file of 20 MiB that is whole; then it overflowed, and was unmounted.
struct Overflowed {
    snapshot: Snapshot,
    sum: String,
    place: Place,
    disk: Disk,
}

impl Overflowed {
    fn new() -> Self {
        let (disk, place) = with_little_room();
        let snapshot = place.what(&[]).take();
        assert!(fill(&place, "first", 20));
        sh(&format!("sync -f {}", place.mounted().dir));
        let sum = sh(&format!("sha1sum {}", place.mounted().path("first")));
        assert!(!fill(&place, "large", 60), "writers get errors");
        assert_eq!(store_of(&snapshot), "overflow");
        Self {
            snapshot,
            sum,
            place,
            disk,
        }
    }

    /// What was written before it overflowed is there.
    fn assert_there(&mut self) {
        let node = &self.place.base.node;
        sh(&format!("e2fsck -f -y {node} >/dev/null || test $? = 1"));
        self.place.remount();
        assert_eq!(
            sh(&format!("sha1sum {}", self.place.mounted().path("first"))),
            self.sum
        );
        self.place.mounted().assert_writable();
    }
}

fn store_of(snapshot: &Snapshot) -> String {
    let listed = snapshot.listed();
    listed["devices"][0]["store"].as_str().expect("a word").to_owned()
}

/// Extends it by all there is, and returns what became of the overflow.
fn extend(snapshot: &Snapshot) -> String {
    let text = done(&["extend", "--json", &snapshot.id]);
    let json: Value = serde_json::from_str(&text).expect("it prints JSON");
    json[0]["overflow"].as_str().expect("a word").to_owned()
}

/// Writes so many MiB to a file; whether the disk took them.
fn fill(place: &Place, name: &str, mib: u32) -> bool {
    let path = place.mounted().path(name);
    let dd = Command::new("dd")
        .args(["if=/dev/urandom", &format!("of={path}"), "bs=1M", "oflag=direct"])
        .args([&format!("count={mib}"), "conv=fsync", "status=none"])
        .stderr(Stdio::null())
        .status();
    dd.expect("dd runs").success()
}

#[test]
fn a_store_that_overflows_keeps_the_origin() {
    let disk = Disk::split(&[("data", 900), ("key", 40)]);
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let mut writer = place.writer(Mode::Direct);
    writer.goes_on(50);
    let snapshot = place.what(&[writer.target.pid()]).take();
    assert_eq!(snapshot.report["disk"]["devices"][0]["can_overflow"], true);
    assert_eq!(snapshot.listed()["devices"][0]["can_overflow"], true);
    assert!(!fill(&place, "large", 60), "writers get errors");
    dm::wait_until("the end of the writer", || writer.says().failed > 0);
    assert!(
        [libc::EIO, libc::EROFS].contains(&writer.says().errno),
        "{:?}",
        writer.says()
    );
    let listed = snapshot.listed();
    assert_eq!(listed["devices"][0]["store"], "overflow", "{listed}");
    let text = done(&["ls"]);
    assert!(text.to_lowercase().contains("overflow"), "{text}");

    let origin = snapshot.mount();
    let bounds = writer.bounds(snapshot.memory(), Floor::Written);
    let wrong = bounds.wrong(&origin.open("direct"), Mode::Direct.grain());
    assert_eq!(wrong, [""; 0]);
    origin.unmount();
    place.kind.check(&snapshot.device());
    drop(writer);
    place.unmount();
    snapshot.discard();
    place.remount();
    let wrong = bounds.wrong(&place.mounted().open("direct"), Mode::Direct.grain());
    assert_eq!(wrong, [""; 0]);
    place.mounted().assert_writable();
}

#[test]
fn a_store_that_is_extended_in_time_takes_more() {
    let (disk, place) = with_little_room();
    let snapshot = place.what(&[]).take();
    assert!(fill(&place, "first", 20));
    let before = snapshot.listed();
    let used = before["devices"][0]["used_bytes"].as_u64().expect("a number");
    assert!(used > 20 << 20, "{before}");
    refused(&["extend", &snapshot.id], &[&place.store, "larger"]);
    grow(&disk);
    done(&["extend", &snapshot.id, "--by", "100M"]);
    assert!(fill(&place, "second", 60), "there is room now");
    let after = snapshot.listed();
    assert_eq!(after["devices"][0]["store"], "ok", "{after}");
    let total = |listed: &Value| listed["devices"][0]["total_bytes"].as_u64().expect("a number");
    assert!(total(&after) >= total(&before) + (100 << 20), "{before} {after}");
    snapshot.commit();
    place.mounted().again();
    assert_eq!(
        sh(&format!("stat -c %s {}", place.mounted().path("second"))),
        format!("{}\n", 60 << 20)
    );
}

#[test]
fn a_store_that_overflowed_takes_writes_again_when_it_is_extended() {
    let mut it = Overflowed::new();
    grow(&it.disk);
    assert_eq!(extend(&it.snapshot), "stays", "it is mounted");
    it.place.unmount();
    assert_eq!(extend(&it.snapshot), "cleared");
    assert_eq!(dm::target("ff-data"), "snapshot");
    assert_eq!(store_of(&it.snapshot), "ok");
    it.assert_there();
    assert!(fill(&it.place, "second", 60), "there is room now");
    it.snapshot.commit();
    it.place.mounted().again();
    assert_eq!(
        sh(&format!("stat -c %s {}", it.place.mounted().path("second"))),
        format!("{}\n", 60 << 20)
    );
}

/// A killed extend leaves the top on an `error` table: nobody can mount what is below, and whoever goes on finds all of it.
#[test]
fn an_extend_that_was_cut_off_goes_on() {
    for go_on in ["extend", "layer up", "commit", "discard"] {
        let mut it = Overflowed::new();
        grow(&it.disk);
        it.place.unmount();
        let node = &it.place.base.node;
        dm::replace("ff-data", &format!("0 {} error", dm::sectors(node)));
        sh(&format!("! mount {node} /mnt/data 2>/dev/null"));
        assert_eq!(it.snapshot.listed()["state"], "down");
        match go_on {
            "extend" => assert_eq!(extend(&it.snapshot), "cleared"),
            "layer up" => {
                done(&["layer", "up"]);
                // It is as full as it was.
                assert_eq!(extend(&it.snapshot), "none");
            }
            end => drop(done(&[end, &it.snapshot.id])),
        }
        let goes_on = ["extend", "layer up"].contains(&go_on);
        let target = if goes_on { "snapshot" } else { "linear" };
        assert_eq!(dm::target("ff-data"), target, "{go_on}");
        if go_on == "discard" {
            it.place.remount();
            let first = it.place.mounted().path("first");
            assert!(!std::fs::exists(first).expect("it is readable"));
        } else {
            it.assert_there();
        }
    }
}

#[test]
fn what_a_store_took_before_it_overflowed_is_committed() {
    let mut it = Overflowed::new();
    it.place.unmount();
    done(&["commit", &it.snapshot.id]);
    assert_eq!(dm::target("ff-data"), "linear");
    assert_eq!(guest_tests::disk::snapshot::listed(&it.snapshot.id), None);
    it.assert_there();
}

/// The archive goes to a stick that is plugged in when the instant is over: it is no part of the snapshot, and takes all of it.
#[test]
fn a_filesystem_mounted_afterwards_takes_the_archive() {
    let disk = Disk::split(&[("data", 900), ("key", 1000), ("stick", 600)]);
    let place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let stick = disk.part("stick");
    Kind::Ext4.make(&stick);
    let mut writer = place.writer(Mode::Direct);
    writer.goes_on(50);
    let pid = writer.target.pid().to_string();
    let mut take = Command::new("freezeframe")
        .args(["take", "--no-daemon", "--pid", &pid, "--fs", &place.mounted().dir])
        .args(["--snapblockdev", &place.store, "--output", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("freezeframe runs");
    dm::wait_until("the snapshot", || dm::target("ff-data") == "snapshot");
    let loop_device = sh(&format!("losetup -f --show {stick}"));
    let mount = Mount::new(loop_device.trim(), "stick");
    let archive = mount.path("image.tar");
    let mut pipe = take.stdout.take().expect("piped");
    let mut file = std::fs::File::create(&archive).expect("it can be made");
    std::io::copy(&mut pipe, &mut file).expect("it takes it");
    drop(file);
    assert!(take.wait().expect("it is ours").success());
    mount.again();
    sh(&format!("cp {archive} /tmp/disk/image.tar"));
    let memory = Cores::unpack("/tmp/disk/image.tar");
    let snapshots = guest_tests::disk::snapshot::list();
    let id = snapshots[0]["id"].as_str().expect("it has an id");
    let origin = guest_tests::disk::origin::Origin::mount(id, &[]).expect("it mounts");
    let bounds = writer.bounds(&memory, Floor::Written);
    let wrong = bounds.wrong(&origin.open("direct"), Mode::Direct.grain());
    assert_eq!(wrong, [""; 0]);
    origin.unmount();
    done(&["commit", id]);
    drop(mount);
    sh(&format!(
        "losetup -d {}; e2fsck -f -n {stick}",
        loop_device.trim()
    ));
}
