//! Several filesystems at one instant, each with a writer: ours are on linear devices, the others on logical volumes.

use std::time::Instant;

use guest_tests::disk::base::lvm;
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::snapshot::What;
use guest_tests::disk::{Disk, dm};
use guest_tests::sh;
use serde_json::json;

use crate::window::{Load, Writer, ns};
use crate::{Out, group};

/// Their names, by which their parts are called too.
const NAMES: [&str; 3] = ["one", "two", "three"];

/// Sizes, in MiB: of each filesystem, of the store, and of the volume group.
const FILESYSTEM: u32 = 300;
const STORE: u32 = 1000;
const GROUP: u32 = 1800;

/// Both methods once a round.
pub fn measure(out: &mut Out, rounds: usize) {
    let mut parts: Vec<_> = NAMES.map(|name| (name, FILESYSTEM)).into();
    parts.extend([("store", STORE), ("group", GROUP)]);
    let disk = Disk::split(&parts);
    let ours = NAMES.map(|name| Kind::Ext4.fresh(&dm::linear(name, &disk.part(name)), name));
    group(&disk);
    let theirs = NAMES.map(|name| {
        lvm(&format!("lvcreate -q -y -L {FILESYSTEM}M -n {name} vg"));
        Kind::Ext4.fresh(&format!("/dev/mapper/vg-{name}"), &format!("vg-{name}"))
    });
    let store = disk.part("store");
    for _ in 0..rounds {
        for load in [Load::Direct, Load::Buffered] {
            let writers = start(&ours, load);
            let snapshot = What {
                mounts: ours.iter().map(|mount| mount.dir.as_str()).collect(),
                store: &store,
                ..What::default()
            }
            .take();
            let window = snapshot.report["disk"]["write_window_ns"].clone();
            sample(out, "freezeframe", load, &window, writers);
            snapshot.commit();

            let writers = start(&theirs, load);
            let begin = Instant::now();
            each("fsfreeze -f", &theirs);
            for name in NAMES {
                lvm(&format!(
                    "lvcreate -q -y -s -L 200M -c 4k -n snap-{name} vg/{name}"
                ));
            }
            each("fsfreeze -u", &theirs);
            let window = ns(begin.elapsed());
            sample(out, "fsfreeze+lvcreate", load, &window.into(), writers);
            for name in NAMES {
                lvm(&format!("lvremove -q -y vg/snap-{name}"));
            }
        }
    }
}

fn start(mounts: &[Mount], load: Load) -> Vec<Writer> {
    mounts.iter().map(|mount| Writer::start(mount, load)).collect()
}

fn each(command: &str, mounts: &[Mount]) {
    for mount in mounts {
        sh(&format!("{command} {}", mount.dir));
    }
}

fn sample(out: &mut Out, method: &str, load: Load, window: &serde_json::Value, writers: Vec<Writer>) {
    let gap = writers.into_iter().map(Writer::stop).max().map(ns);
    out.sample(
        "several",
        &json!({ "method": method, "load": load.name(), "window_ns": window, "gap_ns": gap }),
    );
}
