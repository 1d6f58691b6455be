//! `manifest.json`: what an archive holds, and what of the instant it does not.

use serde::Serialize;
use snap_common::abi;

use crate::how::Arm;

use super::{Core, Image, PAGE, comm};

/// The first member of an archive.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Version of this format; goes up when a field changes its meaning.
    pub manifest_version: u32,
    /// Who wrote it.
    pub freezeframe_version: &'static str,
    /// Counts up since the module was loaded.
    pub snapshot_id: u64,
    /// The instant, `CLOCK_MONOTONIC`.
    pub instant_ns: u64,
    /// The instant, nanoseconds since 1970.
    pub instant_unix_ns: u64,
    /// One entry per core.
    pub processes: Vec<ProcessEntry>,
}

/// One process of an archive.
#[derive(Debug, Serialize)]
pub struct ProcessEntry {
    /// Its id in the pid namespace of whoever took the snapshot.
    pub pid: i32,
    /// Its parent's.
    pub ppid: i32,
    /// Its name.
    pub comm: String,
    /// Its program.
    pub exe: String,
    /// The member of the archive that holds it.
    pub core: String,
    /// Size of that member.
    pub core_bytes: u64,
    /// Its threads.
    pub threads: Vec<ThreadEntry>,
    /// How its memory was armed.
    pub arm: &'static str,
    /// Why so.
    pub arm_reason: &'static str,
    /// What belonged to the instant and is not in the core, one sentence each.
    pub not_captured: Vec<String>,
}

/// One thread of a process.
#[derive(Debug, Serialize)]
pub struct ThreadEntry {
    /// Its id.
    pub tid: i32,
    /// Its name.
    pub comm: String,
    /// `parked`, `asleep` (in a system call) or `kernel` (runs no user code).
    pub state: &'static str,
}

impl Manifest {
    /// Describes an image; `cores` are those of its processes, in order.
    #[must_use]
    pub fn new(image: &Image, cores: &[Core]) -> Self {
        let entries = image
            .processes
            .iter()
            .zip(cores)
            .map(|(process, core)| ProcessEntry {
                pid: process.pid,
                ppid: process.ppid,
                comm: comm(&process.comm),
                exe: image.text(process.exe),
                core: format!("core.{}", process.pid),
                core_bytes: core.bytes(),
                threads: image.threads_of(process).iter().map(thread_entry).collect(),
                arm: Arm::name(process.arm_mode),
                arm_reason: Arm::why(process.arm_reason),
                not_captured: not_captured(image, process),
            });
        Self {
            manifest_version: 1,
            freezeframe_version: env!("CARGO_PKG_VERSION"),
            snapshot_id: image.header.snapshot_id,
            instant_ns: image.header.instant_ns,
            instant_unix_ns: image.header.instant_realtime_ns,
            processes: entries.collect(),
        }
    }
}

fn thread_entry(thread: &abi::ImageThread) -> ThreadEntry {
    ThreadEntry {
        tid: thread.pid,
        comm: comm(&thread.comm),
        state: match thread.state {
            abi::THREAD_PARKED => "parked",
            abi::THREAD_ASLEEP => "asleep",
            _ => "kernel",
        },
    }
}

fn not_captured(image: &Image, process: &abi::ImageProcess) -> Vec<String> {
    let mut missing = vec!["file descriptors, signal actions and timers".to_owned()];
    for vma in image.vmas_of(process) {
        let range = format!("{:#x}-{:#x} {}", vma.start, vma.end, image.text(vma.path));
        if vma.flags & abi::VMA_DEVICE != 0 {
            missing.push(format!("{range}: device memory"));
        }
        if vma.flags & abi::VMA_SPECIAL != 0 {
            missing.push(format!("{range}: the kernel's own pages"));
        }
        if vma.flags & abi::VMA_INTERNAL != 0 {
            missing.push(format!("{range}: a shared mapping of a file of the kernel's own"));
        }
        let elsewhere = abi::VMA_SHMEM | abi::VMA_DEVICE | abi::VMA_INTERNAL;
        if vma.flags & (abi::VMA_SHARED | elsewhere) == abi::VMA_SHARED {
            missing.push(format!(
                "{range}: a shared mapping of a file belongs to its filesystem"
            ));
        }
        for run in image
            .runs_of(vma)
            .iter()
            .filter(|run| run.flags & abi::RUN_UNREADABLE != 0)
        {
            let end = run.vaddr + u64::from(run.pages) * PAGE;
            missing.push(format!(
                "{:#x}-{end:#x}: the memory is defective and could not be read",
                run.vaddr
            ));
        }
    }
    missing
}
