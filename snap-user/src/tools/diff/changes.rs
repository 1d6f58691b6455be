//! What `diff` finds. `--json` prints it, and fields are only ever added.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pages::{self, PageCounts};
use super::side::Side;
use crate::archive::manifest::Manifest;
use crate::archive::process::{Mapping, OpenFile, Process};

/// The differences between two images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The earlier image.
    pub a: Instant,
    /// The later image.
    pub b: Instant,
    /// Processes that only the later has.
    pub come: Vec<Name>,
    /// Processes that only the earlier has.
    pub gone: Vec<Name>,
    /// Processes that both have.
    pub processes: Vec<ProcessDifference>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instant {
    /// Its id.
    pub image_id: String,
    /// Its snapshot.
    pub snapshot_id: u64,
    /// When, nanoseconds since 1970.
    pub instant_unix_ns: u64,
}

impl Instant {
    fn new(manifest: &Manifest) -> Self {
        Self {
            image_id: manifest.image_id.clone(),
            snapshot_id: manifest.snapshot_id,
            instant_unix_ns: manifest.instant_unix_ns,
        }
    }
}

/// A process or thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub comm: String,
}

/// What changed in a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessDifference {
    /// Its id.
    pub pid: i32,
    /// Its name, in the later image.
    pub comm: String,
    /// Its program, where it runs another one now: the earlier and the later.
    pub exe: Option<(String, String)>,
    /// Threads that only the later image has.
    pub threads_come: Vec<Name>,
    /// Threads that only the earlier image has.
    pub threads_gone: Vec<Name>,
    /// Descriptors that changed.
    pub descriptors: Vec<DescriptorDifference>,
    /// Mappings that changed, or whose pages did.
    pub mappings: Vec<MappingDifference>,
    /// All pages of the process.
    pub pages: PageCounts,
}

impl ProcessDifference {
    /// Whether it is the same in both images.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.exe.is_none()
            && self.threads_come.is_empty()
            && self.threads_gone.is_empty()
            && self.descriptors.is_empty()
            && self.mappings.is_empty()
            && !self.pages.differ()
    }
}

/// How something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the later image has it.
    Come,
    /// Only the earlier image has it.
    Gone,
    /// Both have it, and it is another, or otherwise than it was.
    Changed,
    /// Both have it, and only what is in it changed: a file's position, a mapping's pages.
    Within,
}

/// A descriptor that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescriptorDifference {
    /// Its number.
    pub fd: i32,
    /// How.
    pub change: Change,
    /// What it refers to, in the later image where that has it.
    pub path: String,
    /// The position before and after.
    pub position: Option<(u64, u64)>,
}

/// A mapping that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappingDifference {
    /// First address, in the later image where that has it.
    pub start: u64,
    /// Behind its last.
    pub end: u64,
    /// The file, or its name.
    pub path: String,
    /// How.
    pub change: Change,
    /// By how many bytes it grew; less than 0: it shrank.
    pub grown_bytes: i64,
    /// Permissions, where they changed: before and after.
    pub permissions: Option<(String, String)>,
    /// Its pages.
    pub pages: PageCounts,
}

pub(super) fn compare(a: &Side, b: &Side) -> Difference {
    let same = |pid: &i32| match (a.processes.get(pid), b.processes.get(pid)) {
        (Some(before), Some(after)) => {
            before.start_time_ns == after.start_time_ns && a.manifest.boot_id == b.manifest.boot_id
        }
        _ => false,
    };
    let only = |side: &Side| -> Vec<Name> {
        let processes = side.processes.values().filter(|process| !same(&process.pid));
        processes
            .map(|process| name(process.pid, &process.comm))
            .collect()
    };
    Difference {
        a: Instant::new(&a.manifest),
        b: Instant::new(&b.manifest),
        come: only(b),
        gone: only(a),
        processes: b
            .processes
            .values()
            .filter(|process| same(&process.pid))
            .filter_map(|after| Some(process(a, b, a.processes.get(&after.pid)?, after)))
            .collect(),
    }
}

fn name(id: i32, comm: &str) -> Name {
    Name {
        id,
        comm: comm.to_owned(),
    }
}

fn process(a: &Side, b: &Side, before: &Process, after: &Process) -> ProcessDifference {
    let threads = |of: &Process, not: &Process| -> Vec<Name> {
        let known: std::collections::BTreeSet<_> = not.threads.iter().map(|thread| thread.tid).collect();
        let threads = of.threads.iter().filter(|thread| !known.contains(&thread.tid));
        threads.map(|thread| name(thread.tid, &thread.comm)).collect()
    };
    let mut sorted = after.mappings.clone();
    sorted.sort_by_key(|mapping| mapping.start);
    let (counts, outside) = pages::compare(a, b, after.pid, &sorted);
    ProcessDifference {
        pid: after.pid,
        comm: after.comm.clone(),
        exe: (before.exe != after.exe).then(|| (before.exe.clone(), after.exe.clone())),
        threads_come: threads(after, before),
        threads_gone: threads(before, after),
        descriptors: descriptors(before, after),
        pages: counts.iter().fold(outside, |sum, count| sum.plus(*count)),
        mappings: mappings(&before.mappings, &sorted, &counts),
    }
}

fn descriptors(before: &Process, after: &Process) -> Vec<DescriptorDifference> {
    let files = |process: &Process| -> BTreeMap<i32, OpenFile> {
        let files: BTreeMap<_, _> = process.files.iter().map(|file| (file.id, file)).collect();
        let found = process
            .descriptors
            .iter()
            .filter_map(|one| Some((one.fd, (*files.get(&one.file)?).clone())));
        found.collect()
    };
    let (before, after) = (files(before), files(after));
    let mut changes = Vec::new();
    for (fd, old) in &before {
        let (change, path, position) = match after.get(fd) {
            None => (Change::Gone, &old.path, None),
            Some(new) if identity(old) != identity(new) => (Change::Changed, &new.path, None),
            Some(new) if old.position != new.position => {
                (Change::Within, &new.path, Some((old.position, new.position)))
            }
            Some(_) => continue,
        };
        changes.push(DescriptorDifference {
            fd: *fd,
            change,
            path: path.clone(),
            position,
        });
    }
    let come = after.iter().filter(|(fd, _)| !before.contains_key(fd));
    changes.extend(come.map(|(fd, file)| DescriptorDifference {
        fd: *fd,
        change: Change::Come,
        path: file.path.clone(),
        position: None,
    }));
    changes.sort_by_key(|change| change.fd);
    changes
}

/// What makes an open file the same: its `id` counts within one image only.
fn identity(file: &OpenFile) -> (&str, &str, u64, &str, u32) {
    (&file.kind, &file.path, file.inode, &file.device, file.flags)
}

/// Mappings are the same where they begin, or end, at the same address and map the same.
fn mappings(before: &[Mapping], after: &[Mapping], counts: &[PageCounts]) -> Vec<MappingDifference> {
    let what = |mapping: &Mapping| (mapping.path.clone(), mapping.device.clone(), mapping.inode);
    let mut starts: BTreeMap<_, _> = before.iter().map(|old| ((old.start, what(old)), old)).collect();
    let mut pairs: Vec<(Option<&Mapping>, &Mapping, PageCounts)> = Vec::new();
    for (new, count) in after.iter().zip(counts) {
        pairs.push((starts.remove(&(new.start, what(new))), new, *count));
    }
    let mut ends: BTreeMap<_, _> = starts.values().map(|old| ((old.end, what(old)), *old)).collect();
    for (old, new, _) in pairs.iter_mut().filter(|(old, ..)| old.is_none()) {
        *old = ends.remove(&(new.end, what(new)));
    }
    let mut changes: Vec<_> = ends
        .values()
        .map(|old| change(old, Change::Gone, PageCounts::default()))
        .collect();
    for (old, new, pages) in pairs {
        let Some(old) = old else {
            changes.push(change(new, Change::Come, pages));
            continue;
        };
        let length = |mapping: &Mapping| i128::from(mapping.end) - i128::from(mapping.start);
        let other = (old.start, old.end, &old.permissions, old.offset)
            != (new.start, new.end, &new.permissions, new.offset);
        if other || pages.differ() {
            let mut one = change(new, if other { Change::Changed } else { Change::Within }, pages);
            one.grown_bytes = i64::try_from(length(new) - length(old)).unwrap_or_default();
            one.permissions = (old.permissions != new.permissions)
                .then(|| (old.permissions.clone(), new.permissions.clone()));
            changes.push(one);
        }
    }
    changes.sort_by_key(|change| change.start);
    changes
}

fn change(mapping: &Mapping, change: Change, pages: PageCounts) -> MappingDifference {
    MappingDifference {
        start: mapping.start,
        end: mapping.end,
        path: mapping.path.clone(),
        change,
        grown_bytes: 0,
        permissions: None,
        pages,
    }
}
