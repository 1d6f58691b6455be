//! The guard of a root's layer, which has only the filesystem on its device to look at: it does not start without the store that
//! a marker there names, and the look changes nothing.

use std::fs::create_dir_all;

use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::snapshot::{What, done, refused};
use guest_tests::disk::{Disk, dm};
use guest_tests::sh;

const TOP: &str = "/dev/mapper/ff-guarded";
const MARKERS: &str = "etc/freezeframe/active";

fn disk() -> Disk {
    let disk = Disk::split(&[("data", 320)]);
    done(&[
        "layer",
        "add",
        &disk.part("data"),
        "--name",
        "guarded",
        "--at-boot",
    ]);
    disk
}

/// A filesystem with a marker of a store that is nowhere.
fn marked(kind: Kind, device: &str) -> Mount {
    let mount = kind.fresh(device, "guarded");
    create_dir_all(mount.path(MARKERS)).expect("it is writable");
    sh(&format!(
        "echo '01234567-0123-4123-8123-0123456789ab 00c0ffee' >{0}/ff-guarded; sync -f {0}",
        mount.path(MARKERS)
    ));
    mount
}

fn assert_refused(root: &str) {
    refused(
        &["layer", "up", "--root", root, "--wait", "0"],
        &["00c0ffee", "is not there", "ffroot=nostore"],
    );
    assert_eq!(dm::named("ff-"), [""; 0]);
}

fn assert_starts(root: &str, more: &[&str]) {
    let mut arguments = vec!["layer", "up", "--root", root, "--wait", "0"];
    arguments.extend(more);
    assert_eq!(done(&arguments).trim(), TOP);
    assert_eq!(dm::target("ff-guarded"), "linear");
    assert_eq!(dm::named("ff-"), ["ff-guarded"]);
    sh("dmsetup remove --retry ff-guarded");
}

#[test]
fn a_root_does_not_start_without_its_store() {
    for kind in Kind::ALL {
        let disk = disk();
        let device = disk.part("data");
        drop(marked(kind, &device));
        assert_refused(TOP);
        assert_refused(&device);
        assert_starts(TOP, &["--without-store"]);
        let mount = Mount::new(&device, "guarded");
        sh(&format!("rm {}/ff-guarded", mount.path(MARKERS)));
        drop(mount);
        assert_starts(TOP, &[]);
        assert_starts(&device, &[]);
    }
}

/// A layer whose filesystem has the markers of this guest, as a root has. The power fails while there is a snapshot of it.
#[test]
fn a_root_starts_on_its_store_and_on_no_other() {
    for kind in Kind::ALL {
        let disk = Disk::split(&[("data", 320), ("key", 400)]);
        let (device, store) = (disk.part("data"), disk.part("key"));
        done(&["layer", "add", &device, "--name", "guarded"]);
        let mount = kind.fresh(TOP, "guarded");
        let markers = mount.path(MARKERS);
        sh(&format!(
            "mkdir -p {markers} /{MARKERS}; mount --bind {markers} /{MARKERS}"
        ));
        let what = What {
            mounts: vec![&mount.dir],
            store: &store,
            ..What::default()
        };
        let snapshot = what.take();
        sh(&format!(
            "echo after >{0}; sync -f {0}; umount /{MARKERS}",
            mount.path("after")
        ));
        drop(mount);
        let power_fails = || {
            sh("dmsetup remove --retry ff-guarded");
            for name in dm::named("ff-") {
                sh(&format!("dmsetup remove --retry {name}"));
            }
        };
        let start = |more: &[&str]| {
            let mut arguments = vec!["layer", "up", "--root", TOP, "--wait", "0"];
            arguments.extend(more);
            assert_eq!(done(&arguments).trim(), TOP);
        };
        power_fails();

        for more in [&[][..], &["--without-store"]] {
            start(more);
            assert_eq!(dm::target("ff-guarded"), "snapshot");
            let mount = Mount::new(TOP, "guarded");
            assert!(std::fs::exists(mount.path("after")).expect("it is readable"));
            drop(mount);
            power_fails();
        }

        let header = "/tmp/disk/header";
        sh(&format!(
            "dd if={store} of={header} bs=64K count=2 status=none
             dd if=/dev/zero of={store} bs=64K count=2 conv=fsync status=none"
        ));
        refused(
            &["layer", "up", "--root", TOP, "--wait", "0"],
            &[&snapshot.id, "is not there", "ffroot=nostore"],
        );
        start(&["--without-store"]);
        assert_eq!(dm::target("ff-guarded"), "linear");
        let mount = Mount::new(TOP, "guarded");
        assert!(!std::fs::exists(mount.path("after")).expect("it is readable"));
        sh(&format!("mount --bind {markers} /{MARKERS}"));
        done(&["layer", "up"]);
        assert!(!std::fs::exists(mount.path(&format!("{MARKERS}/ff-guarded"))).expect("it is readable"));
        sh(&format!("umount /{MARKERS}"));
        drop(mount);
        power_fails();

        sh(&format!(
            "dd if={header} of={store} conv=notrunc,fsync status=none"
        ));
        refused(
            &["layer", "up", "--root", TOP, "--wait", "0"],
            &[&snapshot.id, "without its snapshot", "discard"],
        );
        start(&["--without-store"]);
        assert_eq!(dm::target("ff-guarded"), "linear");
        drop(Mount::new(TOP, "guarded"));
        snapshot.discard();
        power_fails();
        start(&[]);
        assert_eq!(dm::target("ff-guarded"), "linear");
    }
}

/// The power fails when the marker is gone by the journal alone.
#[test]
fn the_journal_counts_and_is_left_alone() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let disk = disk();
        let device = disk.part("data");
        let mount = marked(kind, &device);
        sh(&format!(
            "rm {0}/ff-guarded; xfs_io -c fsync {0}; xfs_io -x -c shutdown {0}",
            mount.path(MARKERS)
        ));
        drop(mount);
        let sum = || sh(&format!("blockdev --flushbufs {device}; sha1sum {device}"));
        let before = sum();
        assert_starts(TOP, &[]);
        assert_eq!(sum(), before, "{kind:?} is as it was");
        drop(Mount::new(&device, "guarded"));
        assert_ne!(sum(), before, "{kind:?} had a journal to be replayed");
    }
}

#[test]
fn what_cannot_be_told_is_not_started() {
    let disk = disk();
    let device = disk.part("data");
    refused(
        &["layer", "up", "--root", TOP, "--wait", "0"],
        &["no filesystem", "ffroot=nostore"],
    );
    Kind::Xfs.make(&device);
    // A filesystem that is recognized and cannot be mounted.
    sh(&format!(
        "dd if=/dev/zero of={device} bs=1M seek=1 count=300 conv=fsync status=none"
    ));
    sh(&format!(
        "dd if=/dev/urandom of={device} bs=512 seek=1 count=2000 conv=fsync status=none"
    ));
    refused(&["layer", "up", "--root", TOP, "--wait", "0"], &["does not tell"]);
    assert_eq!(dm::named("ff-"), [""; 0]);
    refused(
        &["layer", "up", "--root", "/dev/mapper/ff-nowhere", "--wait", "0"],
        &["no such layer"],
    );
    assert_eq!(
        done(&["layer", "up", "--root", "/dev/nvme0n1", "--wait", "0"]),
        ""
    );
}
