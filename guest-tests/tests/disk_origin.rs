//! The frozen origin is of the instant, whole and clean, whatever the filesystem is, whatever it sits on and however it is written to;
//! and a commit under the writers loses nothing.

use guest_tests::disk::base::{self, Base};
use guest_tests::disk::fs::{self, Mount};
use guest_tests::disk::snapshot::What;
use guest_tests::disk::{Disk, dm};
use guest_tests::rounds_of;
use guest_tests::sectors::{Floor, Mode, Writer};

const BLOCKS: u64 = 512;

/// One writer per mode, each on a file of its own.
fn writers(mount: &Mount) -> Vec<Writer> {
    let writer = |mode: Mode| Writer::spawn(&mount.path(mode.name()), mode, BLOCKS);
    Mode::ALL.map(writer).into()
}

fn check(on: base::Kind, kind: fs::Kind) {
    let disk = Disk::split(&[("data", 900), ("key", 1000)]);
    let base = Base::on(on, &disk.part("data"));
    let store = disk.part("key");
    let mount = kind.fresh(&base.node, "data");
    let mut writers = writers(&mount);
    let what = What {
        pids: writers.iter().map(|writer| writer.target.pid()).collect(),
        mounts: vec![&mount.dir],
        store: &store,
        ..What::default()
    };
    for round in 0..rounds_of(1, 50) {
        writers.iter_mut().for_each(|writer| writer.goes_on(50));
        let snapshot = what.take();
        assert_eq!(dm::target(base.name()), "snapshot");
        base.meddle();
        writers.iter_mut().for_each(|writer| writer.goes_on(200));
        let origin = snapshot.mount();
        for writer in &writers {
            let bounds = writer.bounds(snapshot.memory(), Floor::Written);
            let wrong = bounds.wrong(&origin.open(writer.mode.name()), writer.mode.grain());
            assert_eq!(wrong, [""; 0], "round {round}, {:?}", writer.mode);
        }
        origin.unmount();
        kind.check(&snapshot.device());
        snapshot.commit();
        assert_eq!(dm::target(base.name()), "linear");
        writers.iter_mut().for_each(|writer| writer.goes_on(50));
    }
    let bounds: Vec<_> = writers.iter_mut().map(Writer::stop).collect();
    let files: Vec<_> = writers.iter().map(|writer| writer.mode).collect();
    drop(writers);
    mount.again();
    for (mode, bounds) in files.into_iter().zip(bounds) {
        let wrong = bounds.wrong(&mount.open(mode.name()), mode.grain());
        assert_eq!(wrong, [""; 0], "after the commits, {mode:?}");
    }
    drop(mount);
    kind.check(&base.node);
}

#[test]
fn ext4_on_a_linear_device() {
    check(base::Kind::Linear, fs::Kind::Ext4);
}

#[test]
fn ext4_on_a_layer_over_a_partition() {
    check(base::Kind::LayerOnPartition, fs::Kind::Ext4);
}

#[test]
fn ext4_on_a_layer_over_a_logical_volume() {
    check(base::Kind::LayerOnVolume, fs::Kind::Ext4);
}

#[test]
fn xfs_on_a_linear_device() {
    check(base::Kind::Linear, fs::Kind::Xfs);
}

#[test]
fn xfs_on_a_layer_over_a_partition() {
    check(base::Kind::LayerOnPartition, fs::Kind::Xfs);
}

#[test]
fn xfs_on_a_layer_over_a_logical_volume() {
    check(base::Kind::LayerOnVolume, fs::Kind::Xfs);
}

#[test]
fn btrfs_on_a_linear_device() {
    check(base::Kind::Linear, fs::Kind::Btrfs);
}

#[test]
fn btrfs_on_a_layer_over_a_partition() {
    check(base::Kind::LayerOnPartition, fs::Kind::Btrfs);
}

#[test]
fn btrfs_on_a_layer_over_a_logical_volume() {
    check(base::Kind::LayerOnVolume, fs::Kind::Btrfs);
}
