//! A guest whose root filesystem is on our layer, and snapshots of all of it.

use serde_json::Value;

use super::dm;
use super::snapshot::{Snapshot, done};
use crate::memory::Cores;
use crate::sh;

/// The root's layer.
pub const TOP: &str = "ff-root";

/// Where the tests keep their files on the root.
pub const DIR: &str = "/srv/root";

/// The root is on the layer, and [`DIR`] is there.
///
/// # Panics
///
/// When it is not.
pub fn assert_on_the_layer() {
    let source = sh("findmnt -n -o SOURCE /");
    assert_eq!(source.trim(), format!("/dev/mapper/{TOP}"));
    sh(&format!("mkdir -p {DIR} /tmp/disk"));
}

/// The kind of target that the root is on.
#[must_use]
pub fn target() -> String {
    dm::target(TOP)
}

/// Takes everything: every process, and every filesystem, which is the root alone.
///
/// # Panics
///
/// When that fails.
#[must_use]
pub fn take_all(store: &str, more: &[&str]) -> Snapshot {
    let archive = "/tmp/disk/all.tar";
    let mut arguments = vec!["take", "--no-daemon", "--json", "--all"];
    arguments.extend(["--snapblockdev", store, "--output", archive]);
    arguments.extend(more);
    let report: Value = serde_json::from_str(&done(&arguments)).expect("the report is JSON");
    let filesystems = report["disk"]["filesystems"].as_array().expect("a list");
    assert_eq!(filesystems.len(), 1, "{report}");
    assert_eq!(filesystems[0]["mount"], "/", "{report}");
    assert_eq!(target(), "snapshot");
    Snapshot {
        id: report["disk"]["id"].as_str().expect("an id").to_owned(),
        report,
        memory: Some(Cores::unpack(archive)),
    }
}

/// Forgets what is cached: what is read next is read from the disk.
pub fn drop_caches() {
    sh("sync; echo 3 >/proc/sys/vm/drop_caches");
}
