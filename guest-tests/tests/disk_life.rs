//! What becomes of a snapshot with a disk's half, as a user sees it: its origin, its commit, its discard, the next boot.

use guest_tests::controller::freezeframe;
use guest_tests::disk::base::Kind::LayerOnPartition;
use guest_tests::disk::base::lvm;
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::{What, assert_says, done, list, refused};
use guest_tests::disk::{Disk, dm};
use guest_tests::sh;

/// Makes a file say something, for good.
fn write(place: &Place, text: &str) {
    let path = place.mounted().path("file");
    sh(&format!("echo {text} >{path}; sync -f {path}"));
}

fn read(place: &Place) -> String {
    place.mounted().again();
    sh(&format!("cat {}", place.mounted().path("file")))
}

#[test]
fn the_origin_stays_and_a_commit_keeps_what_was_written() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let disk = Disk::usual();
        let place = Place::new(&disk, LayerOnPartition, kind);
        write(&place, "before");
        let snapshot = place.what(&[]).take();
        write(&place, "after");
        assert_eq!(
            done(&["origin", &snapshot.id]),
            format!("{}\n", snapshot.device())
        );
        let listed = snapshot.listed();
        assert_eq!(listed["state"], "active", "{listed}");
        let device = &listed["devices"][0];
        assert_eq!(
            (&device["top"], &device["store"], &device["can_overflow"]),
            (&"ff-data".into(), &"ok".into(), &false.into())
        );
        assert_eq!(device["mounts"][0], place.mounted().dir, "{listed}");
        let text = done(&["ls"]);
        assert!(
            text.contains(&snapshot.id) && text.contains("cannot overflow"),
            "{text}"
        );

        for view in [&[][..], &["--view"]] {
            let origin = guest_tests::disk::origin::Origin::mount(&snapshot.id, view).expect("it mounts");
            assert_eq!(sh(&format!("cat {}/file", origin.dir)), "before\n");
            assert!(std::fs::write(format!("{}/file", origin.dir), "x").is_err());
            // Its origin would change under whoever reads it.
            refused(
                &["commit", &snapshot.id],
                &[&snapshot.id, &origin.dir, "--unmount"],
            );
            origin.unmount();
        }
        // As much of an ID as is unambiguous.
        done(&["commit", &snapshot.id[..3]]);
        assert_eq!(dm::target("ff-data"), "linear");
        assert_eq!(read(&place), "after\n");
    }
}

#[test]
fn a_discard_goes_back_to_the_instant() {
    for kind in Kind::ALL {
        let disk = Disk::usual();
        let mut place = Place::new(&disk, LayerOnPartition, kind);
        write(&place, "before");
        let snapshot = place.what(&[]).take();
        write(&place, "after");
        let dir = place.mounted().dir.clone();
        refused(&["discard", &snapshot.id], &[&snapshot.id, &dir, "umount"]);
        refused(
            &["layer", "remove", "data"],
            &["data", &snapshot.id, "freezeframe commit"],
        );
        place.unmount();
        snapshot.discard();
        place.remount();
        assert_eq!(read(&place), "before\n", "{kind:?}");
        place.unmount();
        kind.check(&place.base.node);
    }
}

/// Nor to a subvolume of it, whose files have another device number.
#[test]
fn an_image_is_not_written_to_what_is_discarded() {
    for kind in [Kind::Ext4, Kind::Btrfs] {
        let disk = Disk::usual();
        let place = Place::new(&disk, LayerOnPartition, kind);
        let dir = &place.mounted().dir;
        let home = "/mnt/home";
        if kind == Kind::Btrfs {
            sh(&format!(
                "btrfs subvolume create {dir}/home; mkdir -p {home}; mount -o subvol=home {} {home}",
                place.base.node
            ));
        }
        let on = if kind == Kind::Btrfs { home } else { dir };
        let image = format!("{on}/image.tar");
        let mut arguments = vec![
            "take",
            "--no-daemon",
            "--fs",
            dir,
            "--snapblockdev",
            &place.store,
            "-o",
            &image,
        ];
        refused(
            &arguments,
            &["cannot write the image to", dir, "--exempt", "--keep"],
        );
        assert_eq!(dm::target("ff-data"), "linear");
        sh(&format!("if ls -A {on} | grep -F image.tar; then exit 1; fi"));
        arguments.push("--keep");
        done(&arguments);
        sh(&format!("tar tf {image} | grep -qx manifest.json"));
        done(&["commit", list()[0]["id"].as_str().expect("it has an id")]);
        if kind == Kind::Btrfs {
            sh(&format!("umount {home}"));
        }
    }
}

/// However many loop devices lie between.
#[test]
fn neither_image_nor_store_rests_on_what_is_switched() {
    let disk = Disk::usual();
    let place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let dir = &place.mounted().dir;
    let on_file = |file: &str, size: &str| {
        let script = format!("truncate -s {size} {file}; losetup -f --show {file}");
        sh(&script).trim_end().to_owned()
    };
    let plain = on_file(&format!("{dir}/plain"), "16M");
    let outer = on_file(&format!("{dir}/outer"), "64M");
    let usb = Kind::Ext4.fresh(&outer, "usb");
    let inner = on_file(&usb.path("inner"), "16M");
    let (take, image) = (
        ["take", "--no-daemon", "--fs", dir, "--snapblockdev"],
        usb.path("image.tar"),
    );
    refused(
        &[&take[..], &[&place.store, "-o", &image]].concat(),
        &["cannot write the image to", dir, "--exempt", "--keep"],
    );
    sh(&format!("test ! -e {image}"));
    for store in [&plain, &inner] {
        refused(
            &[&take[..], &[store]].concat(),
            &[store, dir, "device of its own"],
        );
    }
    assert_eq!(dm::target("ff-data"), "linear");
    sh(&format!("losetup -d {inner}"));
    drop(usb);
    sh(&format!("losetup -d {outer}; losetup -d {plain}"));
}

#[test]
fn an_orderly_shutdown_discards_unless_told_to_keep() {
    for (options, then) in [(&[][..], "before\n"), (&["--keep"], "after\n")] {
        let disk = Disk::usual();
        let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
        write(&place, "before");
        let what = What {
            more: options.to_vec(),
            ..place.what(&[])
        };
        let snapshot = what.take();
        write(&place, "after");
        refused(&["layer", "down"], &["umount"]);
        place.unmount();
        done(&["layer", "down"]);
        assert_eq!(dm::named("ff-"), [""; 0]);
        done(&["layer", "up"]);
        place.remount();
        assert_eq!(read(&place), then);
        if options.is_empty() {
            assert_eq!(dm::target("ff-data"), "linear");
        } else {
            assert_eq!(dm::target("ff-data"), "snapshot");
            let origin = snapshot.mount();
            assert_eq!(sh(&format!("cat {}/file", origin.dir)), "before\n");
            origin.unmount();
            // Told so later, it is given up like any other.
            done(&["discard", &snapshot.id, "--at-shutdown"]);
            place.unmount();
            done(&["layer", "down"]);
            done(&["layer", "up"]);
            place.remount();
            assert_eq!(read(&place), "before\n");
        }
        assert_eq!(guest_tests::disk::snapshot::listed(&snapshot.id), None);
        dm::assert_all_live();
    }
}

#[test]
fn a_layer_does_not_start_without_the_store_that_it_runs_on() {
    let disk = Disk::usual();
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    write(&place, "before");
    let what = What {
        more: vec!["--keep"],
        ..place.what(&[])
    };
    let snapshot = what.take();
    write(&place, "after");
    place.unmount();
    done(&["layer", "down"]);
    disk.detach("key");
    refused(&["layer", "up", "--wait", "1"], &["data", &snapshot.id]);
    assert_eq!(dm::named("ff-data"), [""; 0]);
    disk.attach("key");
    done(&["layer", "up"]);
    place.remount();
    assert_eq!(read(&place), "after\n");
    snapshot.commit();
}

#[test]
fn a_commit_that_was_killed_is_finished() {
    let disk = Disk::usual();
    let place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    write(&place, "before");
    let snapshot = place.what(&[]).take();
    // A second's worth of merging.
    sh(&format!(
        "dd if=/dev/urandom of={} bs=1M count=64 conv=fsync status=none",
        place.mounted().path("large")
    ));
    write(&place, "after");
    let mut commit = std::process::Command::new("freezeframe")
        .args(["commit", &snapshot.id])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("freezeframe runs");
    dm::wait_until("the merge", || dm::target("ff-data") == "snapshot-merge");
    commit.kill().expect("it is ours");
    commit.wait().expect("it is ours");
    let state = snapshot.listed()["state"].clone();
    assert!(
        ["interrupted", "merging"].contains(&state.as_str().unwrap_or_default()),
        "{state}"
    );
    // Neither old nor new.
    refused(&["origin", &snapshot.id], &[&snapshot.id, "freezeframe commit"]);
    refused(&["discard", &snapshot.id], &[&snapshot.id, "freezeframe commit"]);
    snapshot.commit();
    assert_eq!(read(&place), "after\n");
}

#[test]
fn a_striped_device_of_nobodys_is_switched_as_it_is() {
    let disk = Disk::split(&[("one", 400), ("other", 400), ("key", 1000)]);
    let (one, other, key) = (disk.part("one"), disk.part("other"), disk.part("key"));
    let node = dm::create("data", &format!("0 1600000 striped 2 128 {one} 0 {other} 0"));
    let mount = Kind::Ext4.fresh(&node, "data");
    let file = mount.path("file");
    let write = |text: &str| sh(&format!("echo {text} >{file}; sync -f {file}"));
    write("before");
    let before = dm::table("data");
    let what = What {
        mounts: vec![&mount.dir],
        store: &key,
        ..What::default()
    };
    let taken = || {
        let snapshot = what.take();
        write("after");
        let origin = snapshot.mount();
        assert_eq!(sh(&format!("cat {}/file", origin.dir)), "before\n");
        origin.unmount();
        snapshot
    };
    taken().commit();
    assert_eq!(dm::table("data"), before);
    write("before");
    let snapshot = taken();
    sh(&format!("umount {}", mount.dir));
    snapshot.discard();
    assert_eq!(dm::table("data"), before);
    sh(&format!("mount {node} {}", mount.dir));
    assert_eq!(sh(&format!("cat {file}")), "before\n");
}

/// The report says whose dirty pages there were, and where they were written back: nearly all before the write window.
#[test]
fn the_report_says_what_was_written_back() {
    const PAGES: u64 = 4096;
    let disk = Disk::usual();
    let place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let dirty = place.mounted().path("dirty");
    sh(&format!(
        "dd if=/dev/zero of={dirty} bs=4k count={PAGES} status=none"
    ));
    let snapshot = place.what(&[]).take();
    let filesystem = &snapshot.report["disk"]["filesystems"][0];
    let number = |field: &str| filesystem[field].as_u64().expect("a number");
    assert!(number("sync_pages") >= PAGES, "{filesystem}");
    assert!(number("freeze_pages") < PAGES / 4, "{filesystem}");
    assert!(number("freeze_ns") > 0 && number("thaw_ns") > 0, "{filesystem}");
    let device = &snapshot.report["disk"]["devices"][0];
    for field in ["suspend_ns", "switch_ns"] {
        assert!(device[field].as_u64() > Some(0), "{field}: {device}");
    }
    snapshot.commit();
}

#[test]
fn what_cannot_be_snapshotted_is_refused_before_anything_changes() {
    let disk = Disk::split(&[("data", 900), ("key", 1000), ("plain", 300)]);
    let mut place = Place::new(&disk, LayerOnPartition, Kind::Ext4);
    let take = |fs: &str, store: &str, words: &[&str]| {
        let arguments = ["take", "--no-daemon", "--fs", fs, "--snapblockdev", store];
        let output = freezeframe(&arguments);
        assert_says(&arguments, &output, words);
        assert_eq!(output.status.code(), Some(9), "{fs}, {store}");
        assert_eq!(dm::target("ff-data"), "linear");
        dm::assert_all_live();
    };
    let (data, store) = (place.mounted().dir.clone(), place.store.clone());
    take("/mnt/nowhere", &store, &["/mnt/nowhere"]);
    take("/proc", &store, &["/proc"]);
    take(&data, "/dev/nowhere", &["/dev/nowhere"]);
    // It has a filesystem, mounted or not.
    let plain = disk.part("plain");
    Kind::Ext4.make(&plain);
    take(&data, &plain, &[&plain, "ext4", "wipefs -a"]);
    let mount = Mount::new(&plain, "plain");
    take(&data, &plain, &[&plain, "mounted"]);
    // There is no table to switch below it.
    take(&mount.dir, &store, &[&mount.dir, "freezeframe layer add"]);
    refused(&["layer", "add", &plain, "--name", "plain"], &[&plain, "mounted"]);
    drop(mount);
    // LVM would load the volume's own table again.
    lvm(&format!("pvcreate -q -ff -y {plain}"));
    lvm(&format!("vgcreate -q group {plain}"));
    lvm("lvcreate -q -y -L 200M -n volume group");
    let mount = Kind::Ext4.fresh("/dev/mapper/group-volume", "volume");
    take(
        &mount.dir,
        &store,
        &[&mount.dir, "LVM", "layer add /dev/mapper/group-volume"],
    );
    assert_eq!(dm::target("group-volume"), "linear");
    drop(mount);
    sh(&format!("dmsetup remove group-volume; wipefs -q -a {plain}"));
    refused(&["layer", "add", &plain, "--name", "data"], &["data"]);
    refused(&["layer", "remove", "data"], &["data", "umount"]);
    place.unmount();
    done(&["layer", "remove", "data"]);
    assert_eq!(dm::named("ff-"), [""; 0]);
}
