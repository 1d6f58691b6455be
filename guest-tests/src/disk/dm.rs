//! Device-mapper devices, by dmsetup: nothing of the controller's own code, so that the two check each other.

use std::time::Instant;

use crate::{patience, sh};

/// The sectors of a block device.
///
/// # Panics
///
/// When it is not there.
#[must_use]
pub fn sectors(device: &str) -> u64 {
    sh(&format!("blockdev --getsz {device}"))
        .trim()
        .parse()
        .expect("a number")
}

/// Makes a device, and returns its node.
#[must_use]
pub fn create(name: &str, table: &str) -> String {
    sh(&format!("dmsetup create {name} --table '{table}'"));
    format!("/dev/mapper/{name}")
}

/// Makes a device of all of another, and returns its node.
#[must_use]
pub fn linear(name: &str, device: &str) -> String {
    create(name, &format!("0 {} linear {device} 0", sectors(device)))
}

/// The live table of a device.
#[must_use]
pub fn table(name: &str) -> String {
    sh(&format!("dmsetup table {name}")).trim().to_owned()
}

/// The kind of a device's first target.
#[must_use]
pub fn target(name: &str) -> String {
    table(name).split(' ').nth(2).unwrap_or_default().to_owned()
}

/// The devices whose names begin like this.
#[must_use]
pub fn named(prefix: &str) -> Vec<String> {
    let list = sh("dmsetup ls");
    let names = list.lines().filter_map(|line| line.split('\t').next());
    names
        .filter(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

/// Nothing is suspended, and no inactive table waits for a resume.
///
/// # Panics
///
/// When something is.
pub fn assert_all_live() {
    let states = sh("dmsetup info -c --noheadings -o name,suspended,tables_loaded 2>&1");
    for line in states.lines().filter(|line| *line != "No devices found") {
        let fields: Vec<_> = line.split(':').collect();
        assert_eq!(&fields[1..], ["Active", "Live"], "{states}");
    }
}

/// Gives a device another table, whatever is frozen on it.
pub fn replace(name: &str, table: &str) {
    sh(&format!(
        "dmsetup load {name} --table '{table}'
         dmsetup suspend --nolockfs --noflush {name}
         dmsetup resume {name}"
    ));
}

/// Waits until something is so.
///
/// # Panics
///
/// When it is not, for a long time.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < patience(60), "{what} never came");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A device that answers nothing until this goes out of scope.
pub struct Suspended(String);

impl Suspended {
    /// From now on.
    #[must_use]
    pub fn new(name: &str) -> Self {
        sh(&format!("dmsetup suspend --noflush --nolockfs {name}"));
        Self(name.to_owned())
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        sh(&format!("dmsetup resume {}", self.0));
    }
}
