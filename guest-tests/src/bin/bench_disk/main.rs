//! The guest's half of `cargo xtask bench disk`: measures, and writes one JSON object a line to `/out/samples.jsonl`. The
//! host makes the tables. Usage: `bench_disk ROUNDS`.
//!
//! Two filesystems lie on one disk: one on our layer, with a store beside it, the other on a logical volume, with room for
//! LVM's own snapshots. Both are measured in turn, in one guest, by the same writers and the same fio. So are, at the end, three and
//! three filesystems at one instant.

use std::fs::File;
use std::io::Write as _;

use guest_tests::disk::Disk;
use guest_tests::disk::base::{Base, Kind as On, lvm};
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::sh;
use serde_json::{Value, json};

mod fio;
mod several;
mod window;

/// Sizes, in MiB: of each filesystem, of the store, and of the volume group.
const FILESYSTEM: u32 = 600;
const STORE: u32 = 700;
const GROUP: u32 = 2000;

/// Samples, written as they come.
pub struct Out(File);

impl Out {
    /// One sample; the console sees that something happens.
    pub fn sample(&mut self, what: &str, sample: &Value) {
        let mut line = json!({ "what": what });
        let target = line.as_object_mut().expect("made above");
        target.extend(sample.as_object().expect("named values").clone());
        println!("{line}");
        writeln!(self.0, "{line}").expect("the samples can be written");
    }
}

/// Both filesystems.
pub struct Bench {
    /// On our layer.
    pub ours: Mount,
    /// On a logical volume.
    pub theirs: Mount,
    /// On a logical volume that is snapshotted while `fsfreeze` has it frozen. From then on Linux 6.12 freezes it for no snapshot of
    /// LVM's any more: `bdev_thaw()` takes the other freeze for a failure, and counts its own as still there.
    pub by_hand: Mount,
    /// The block device for our stores.
    pub store: String,
    /// Where samples go.
    pub out: Out,
    /// Which filesystem both are.
    pub kind: Kind,
}

/// The volume group `vg`, on the part for it.
pub fn group(disk: &Disk) {
    // Without udev, the folder of the last one stays.
    sh("rm -rf /dev/vg");
    lvm(&format!("pvcreate -q -f {}", disk.part("group")));
    lvm(&format!("vgcreate -q vg {}", disk.part("group")));
}

fn main() {
    let rounds: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("usage: bench_disk ROUNDS");
    let mut out = Out(File::create("/out/samples.jsonl").expect("the samples can be written"));
    for kind in [Kind::Ext4, Kind::Xfs] {
        let disk = Disk::split(&[("data", FILESYSTEM), ("store", STORE), ("group", GROUP)]);
        let base = Base::on(On::LayerOnPartition, &disk.part("data"));
        group(&disk);
        for name in ["volume", "hand"] {
            lvm(&format!("lvcreate -q -y -L {FILESYSTEM}M -n {name} vg"));
        }
        let mut bench = Bench {
            ours: kind.fresh(&base.node, "ours"),
            theirs: kind.fresh("/dev/mapper/vg-volume", "theirs"),
            by_hand: kind.fresh("/dev/mapper/vg-hand", "by-hand"),
            store: disk.part("store"),
            out,
            kind,
        };
        window::measure(&mut bench, rounds);
        if kind == Kind::Ext4 {
            fio::measure(&mut bench, rounds);
        }
        out = bench.out;
    }
    several::measure(&mut out, rounds);
}
