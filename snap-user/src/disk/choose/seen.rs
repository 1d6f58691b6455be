//! Filesystems that are looked for, by what is mounted anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::kinds::{Hold, beneath, cannot_freeze};
use super::written::{self, Written};
use crate::disk::blockdev::Devno;
use crate::disk::mounts::{self, Mount};

/// A mount, and the root folder from which its mount point is seen.
pub struct Seen {
    /// The mount.
    pub mount: Mount,
    /// The folder.
    pub root: PathBuf,
    /// How its writers are held up.
    pub hold: Hold,
}

impl Seen {
    /// A mount of ours, which freezes.
    pub fn here(mount: &Mount) -> Self {
        Self {
            mount: mount.clone(),
            root: "/".into(),
            hold: Hold::Freeze,
        }
    }

    /// One that becomes read-only for the instant.
    pub fn read_only(mount: &Mount) -> Self {
        Self {
            hold: Hold::ReadOnly,
            ..Self::here(mount)
        }
    }
}

/// Those of the whole machine that can freeze and are written to.
pub fn everywhere(mounts: &[Mount]) -> Vec<Seen> {
    let mut seen = of_everyone(mounts);
    let read_only = |mount: &Mount| mount.options.split(',').any(|option| option == "ro");
    seen.retain(|seen| cannot_freeze(&seen.mount).is_none() && !read_only(&seen.mount));
    seen
}

/// What is mounted anywhere: what we see first, then what processes see that have another mount namespace, or another root in one.
pub fn of_everyone(mounts: &[Mount]) -> Vec<Seen> {
    let mut seen: Vec<_> = mounts.iter().map(Seen::here).collect();
    let mut views = BTreeSet::from([view("self")]);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if views.insert(view(&pid.to_string())) {
            seen.extend(seen_by(pid));
        }
    }
    seen
}

/// What a process's list of mounts depends on: one with another root is not shown what it cannot reach.
fn view(process: &str) -> [Option<PathBuf>; 2] {
    ["ns/mnt", "root"].map(|what| fs::read_link(format!("/proc/{process}/{what}")).ok())
}

fn seen_by(pid: i32) -> Vec<Seen> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let mounts = mounts::of_process(pid).unwrap_or_default();
    mounts
        .into_iter()
        .map(|mount| Seen {
            mount,
            root: root.clone(),
            hold: Hold::Freeze,
        })
        .collect()
}

/// Those on which processes have files open for writing, or mapped for it.
pub fn written_to(pids: &[i32], mounts: &[Mount]) -> Vec<Seen> {
    let everyones = of_everyone(mounts);
    let mut wanted: Vec<Devno> = Vec::new();
    for file in pids.iter().flat_map(|pid| written::by(*pid)) {
        let on = |file: Written| everyones.iter().find(|seen| file.is_on(&seen.mount));
        let Some(found) = on(file).or_else(|| on(file.by_number())) else {
            continue; // memory, or mounted nowhere any more
        };
        // An overlay's upper folder is a path of whoever mounted it.
        let devno = beneath(&found.mount, mounts).devno;
        if !wanted.contains(&devno) {
            wanted.push(devno);
        }
    }
    // All mounts of each, for some may be hidden.
    let mut seen = everyones;
    seen.retain(|seen| wanted.contains(&seen.mount.devno) && cannot_freeze(&seen.mount).is_none());
    seen
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::of_everyone;
    use crate::disk::mounts::mounts;

    #[test]
    fn every_mount_is_seen_once_from_here() {
        let mounts = mounts().unwrap();
        let seen = of_everyone(&mounts);
        let here = seen.iter().filter(|seen| seen.root == Path::new("/"));
        assert_eq!(here.count(), mounts.len());
    }
}
