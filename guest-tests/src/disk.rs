//! What the tests of the disk's half stand on: the guest's scratch disk, device-mapper devices and layers on it, filesystems on
//! those, and snapshots of them.

pub mod base;
pub mod dm;
pub mod fs;
pub mod held;
pub mod origin;
pub mod pair;
pub mod place;
pub mod root;
pub mod snapshot;

use std::process::Command;

use crate::sh;

/// Where the tests mount things; each below it.
pub const MOUNTS: &str = "/mnt";

/// The scratch disk, split in parts. Everything on it is taken down when it goes out of scope, and before it begins: whatever a failed
/// test left.
pub struct Disk {
    parts: Vec<String>,
}

impl Disk {
    /// Blank, with a partition `data`, and another, `key`, that holds all of it once more.
    #[must_use]
    pub fn usual() -> Self {
        Self::split(&[("data", 900), ("key", 1000)])
    }

    /// Blank, with a partition of so many MiB under each name.
    ///
    /// # Panics
    ///
    /// When the guest has no scratch disk, or does not let go of it.
    #[must_use]
    pub fn split(parts: &[(&str, u32)]) -> Self {
        tear_down();
        let disk = scratch();
        let sizes: String = parts
            .iter()
            .map(|(name, mib)| format!("size={mib}MiB, name={name}\n"))
            .collect();
        // Discarded blocks read as zeroes where the host's filesystem can punch holes. Written as zeroes (-z), they would take all
        // of the disk's size there.
        sh(&format!(
            "blkdiscard -f {disk}
             printf 'label: gpt\n{sizes}' | sfdisk -q --wipe never {disk}
             udevadm settle 2>/dev/null || true"
        ));
        Self::found(&parts.iter().map(|(name, _)| *name).collect::<Vec<_>>())
    }

    /// As it was split before the guest was reset.
    #[must_use]
    pub fn found(parts: &[&str]) -> Self {
        // Where they are built in, there is nothing to load.
        sh("modprobe -a dm-mod dm-snapshot dm-flakey loop xfs btrfs 2>/dev/null || true");
        Self {
            parts: parts.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// The device of a part.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    #[must_use]
    pub fn part(&self, name: &str) -> String {
        format!("{}{}", scratch(), self.number(name))
    }

    /// Takes a part's device away; what is on it stays.
    pub fn detach(&self, name: &str) {
        sh(&format!("delpart {} {}", scratch(), self.number(name)));
    }

    /// Brings it back.
    pub fn attach(&self, name: &str) {
        sh(&format!("partx --add --nr {} {}", self.number(name), scratch()));
    }

    fn number(&self, name: &str) -> usize {
        let index = self.parts.iter().position(|part| part == name);
        index.expect("it is one of the parts") + 1
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        tear_down();
    }
}

fn scratch() -> String {
    std::env::var("FF_SCRATCH").expect("the guest has a scratch disk")
}

/// Thaws, resumes, unmounts and removes all there is; what resists shows when the disk is to be split anew. The layer below the root
/// stays, where there is one.
fn tear_down() {
    let script = format!(
        r#"
        for name in $(dmsetup ls | awk '$1 != "No" {{ print $1 }}'); do
            dmsetup resume "$name"
        done
        for round in 1 2 3; do
            awk '$2 ~ "^{MOUNTS}/" {{ print $2 }}' /proc/mounts | sort -r | while read -r dir; do
                fsfreeze -u "$dir"
                fuser -km "$dir"
                umount "$dir"
            done
            for name in $(dmsetup ls | awk '$1 ~ /^ff-view/ {{ print $1 }}'); do dmsetup remove "$name"; done
        done
        for round in 1 2 3 4; do
            for name in $(dmsetup ls | awk '$1 != "No" {{ print $1 }}'); do dmsetup remove "$name"; done
        done
        rm -rf /dev/group
        losetup -D
        sed -i '/^root /!d' /etc/freezeframe/layers
        rm -rf /tmp/disk
        mkdir -p /tmp/disk
        "#
    );
    // Most of it fails, for it is not there.
    let _ = Command::new("sh").args(["-c", &script]).output();
}
