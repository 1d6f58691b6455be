//! `manifest.json`: what an archive holds, and what of the instant it does not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the format that this release writes; it goes up when a field changes its meaning.
pub const MANIFEST_VERSION: u32 = 2;

/// The first member of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Version of this format. New fields may come at any time without a new version.
    pub manifest_version: u32,
    /// Which release wrote it.
    pub freezeframe_version: String,
    /// Names this image and no other (a random UUID).
    pub image_id: String,
    /// Counts up from 1 since the module was loaded.
    pub snapshot_id: u64,
    /// The kernel's `boot_id`: clocks of two images can be compared where it is the same.
    pub boot_id: String,
    /// Random, the same as long as the module stays loaded: `snapshot_id`s of two images can be compared where it is the same.
    #[serde(default)]
    pub module_instance: String,
    /// The host's name.
    pub host: String,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The instant, nanoseconds of `CLOCK_MONOTONIC`.
    pub instant_ns: u64,
    /// The instant, nanoseconds since 1970.
    pub instant_unix_ns: u64,
    /// The image that this one is an increment to; without it, this one is whole.
    #[serde(default)]
    pub parent: Option<Parent>,
    /// One entry per process, in the order in which they were named.
    pub processes: Vec<ProcessEntry>,
    /// What belonged to the instant and is in none of the processes, one sentence each.
    #[serde(default)]
    pub not_captured: Vec<String>,
}

/// The image that has the pages which did not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// Its `image_id`.
    pub image_id: String,
    /// Its `snapshot_id`.
    pub snapshot_id: u64,
    /// Its file's name when this image was taken: a hint where to look, without a folder.
    pub name: String,
}

/// One process of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessEntry {
    /// Its id in the pid namespace of whoever took the snapshot.
    pub pid: i32,
    /// Its parent's.
    pub ppid: i32,
    /// Its name; bytes that are no UTF-8 are octal, as in `state`.
    pub comm: String,
    /// Its program, likewise.
    pub exe: String,
    /// The member that holds its state.
    pub state: String,
    /// The member that holds its memory and registers.
    pub core: String,
    /// Size of that member in bytes.
    pub core_bytes: u64,
    /// How many threads it has.
    pub threads: u32,
    /// How its memory was armed.
    pub arm: String,
    /// Why so.
    pub arm_reason: String,
    /// Where its pages are.
    pub pages: Pages,
    /// Why an incremental image holds this process whole; without it, it does not, or there is no parent.
    #[serde(default)]
    pub whole_because: Option<String>,
    /// What belonged to the instant and is not in the archive, one sentence each.
    #[serde(default)]
    pub not_captured: Vec<String>,
}

/// Pages of 4 KiB, by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pages {
    /// In this process's core.
    pub here: u64,
    /// In another core of the same archive: shared with that process.
    pub elsewhere: u64,
    /// In the parent image: unchanged since.
    pub parent: u64,
}
