//! The frozen origin is of the instant, whole and clean, whatever the filesystem is, whatever it sits on and however it is written to;
//! and a commit under the writers loses nothing.

use std::fs::File;

use guest_tests::disk::base::Kind::{LayerOnPartition, LayerOnVolume, Linear};
use guest_tests::disk::fs::{self, Mount};
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::assert_says;
use guest_tests::disk::{Disk, base, dm};
use guest_tests::sectors::{Bounds, Floor, Mode, Writer};
use guest_tests::{few, rounds_of};

const BLOCKS: u64 = 128;

/// One writer per mode, each on a file of its own.
fn writers(mount: &Mount) -> Vec<Writer> {
    let writer = |mode: Mode| Writer::spawn(&mount.path(mode.name()), mode, BLOCKS);
    Mode::ALL.map(writer).into()
}

/// Every block of every writer's file is between the bounds that it had.
fn assert_right(bounds: &[(Mode, Bounds)], open: impl Fn(&str) -> File, when: &str) {
    for (mode, bounds) in bounds {
        let wrong = bounds.wrong(&open(mode.name()), mode.grain());
        assert_eq!(wrong, [""; 0], "{mode:?}, {when}");
    }
}

fn check(on: base::Kind, kind: fs::Kind) {
    let disk = Disk::split(&[("data", 900), ("key", 1000)]);
    let mut place = Place::new(&disk, on, kind);
    let mut writers = writers(place.mounted());
    for round in 0..rounds_of(1, 50) {
        writers.iter_mut().for_each(|writer| writer.goes_on(50));
        let pids: Vec<_> = writers.iter().map(|writer| writer.target.pid()).collect();
        let snapshot = place.what(&pids).take();
        assert_eq!(dm::target(place.base.name()), "snapshot");
        place.base.meddle();
        writers.iter_mut().for_each(|writer| writer.goes_on(100));
        let at_instant: Vec<_> = writers
            .iter()
            .map(|writer| (writer.mode, writer.bounds(snapshot.memory(), Floor::Written)))
            .collect();
        let when = format!("round {round}");
        if kind == fs::Kind::Btrfs && !btrfs_mounts_twice() {
            let refused = snapshot.try_mount().err().expect("this kernel does not");
            assert_says(&["origin"], &refused, &["unmount the live one"]);
            let now = stop(writers);
            place.unmount();
            let origin = snapshot.mount();
            assert_right(&at_instant, |name| origin.open(name), &when);
            origin.unmount();
            place.remount();
            assert_right(&now, |name| place.mounted().open(name), "live");
            writers = crate::writers(place.mounted());
        } else {
            let origin = snapshot.mount();
            assert_right(&at_instant, |name| origin.open(name), &when);
            origin.unmount();
        }
        kind.check(&snapshot.device());
        snapshot.commit();
        assert_eq!(dm::target(place.base.name()), "linear");
        writers.iter_mut().for_each(|writer| writer.goes_on(50));
    }
    let now = stop(writers);
    place.mounted().again();
    assert_right(&now, |name| place.mounted().open(name), "after the commits");
    place.unmount();
    kind.check(&place.base.node);
}

/// Beside another of the same uuid: since 6.7.
fn btrfs_mounts_twice() -> bool {
    std::env::var("FF_KERNEL").as_deref() != Ok("6.1")
}

fn stop(writers: Vec<Writer>) -> Vec<(Mode, Bounds)> {
    let stop = |mut writer: Writer| (writer.mode, writer.stop());
    writers.into_iter().map(stop).collect()
}

// On a usual run each filesystem, and each thing to sit on, has its turn once.

#[test]
fn ext4_on_every_kind_of_device() {
    for on in few(&[LayerOnVolume, LayerOnPartition, Linear], 1) {
        check(*on, fs::Kind::Ext4);
    }
}

#[test]
fn xfs_on_every_kind_of_device() {
    for on in few(&[LayerOnPartition, Linear, LayerOnVolume], 1) {
        check(*on, fs::Kind::Xfs);
    }
}

#[test]
fn btrfs_on_every_kind_of_device() {
    for on in few(&[Linear, LayerOnPartition, LayerOnVolume], 1) {
        check(*on, fs::Kind::Btrfs);
    }
}
