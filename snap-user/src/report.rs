//! What a take tells: `--json`, and a table for people.

pub mod disk;
pub mod drain;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use snap_common::abi;
use snap_common::phase::Phase;

use self::disk::DiskReport;
use self::drain::DrainReport;
use crate::drain::Drained;
use crate::how::Arm;

/// One snapshot, as `--json` prints it. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Counts up since the module was loaded.
    pub id: u64,
    /// How the memory was armed: the mode of all processes, or `mixed`.
    pub mode: String,
    /// How the memory of each process was armed, and why so.
    #[serde(default)]
    pub spaces: Vec<SpaceReport>,
    /// How long the targets stood still.
    pub window_ns: u64,
    /// How much of that shared memory took.
    #[serde(default)]
    pub shared_ns: u64,
    /// How much of the window all state but memory and registers took: descriptors, signals, timers, credentials.
    #[serde(default)]
    pub state_ns: u64,
    /// The longest that a target was kept after the window, for a page to be held.
    #[serde(default)]
    pub stall_ns: u64,
    /// How long the pass after the window worked that holds and copies what the window left.
    #[serde(default)]
    pub pass_ns: u64,
    /// How long it rested in between, so that others had the processor.
    #[serde(default)]
    pub rest_ns: u64,
    /// Who held the pages that were armed lazily.
    #[serde(default)]
    pub finalized: Finalized,
    /// 4 KiB pages that the snapshot holds by reference.
    pub pages_armed: u64,
    /// 4 KiB pages that the snapshot has a copy of (in use by a device, or shared memory).
    pub pages_copied: u64,
    /// 4 KiB pages of shared memory, each once, however many processes map it.
    #[serde(default)]
    pub pages_shared: u64,
    /// How many of them had to be copied while the targets stood still.
    #[serde(default)]
    pub pages_shared_stop: u64,
    /// Size of the image.
    pub image_bytes: u64,
    /// Bytes of the archive that were written; 0 without an output.
    pub archive_bytes: u64,
    /// How many processes.
    pub processes: u32,
    /// How many threads were parked at the edge to user mode.
    pub threads_parked: u32,
    /// How many slept in the kernel.
    pub threads_asleep: u32,
    /// How many of those ran in the kernel while the memory was armed.
    pub threads_woken: u32,
    /// The phases that ran, in order.
    pub phases: Vec<PhaseReport>,
    /// How the image was written, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainReport>,
    /// The disk's half, where filesystems froze with the processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskReport>,
}

/// How the memory of a process was armed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceReport {
    /// The process.
    pub pid: i32,
    /// The mode.
    pub mode: String,
    /// Why that one.
    pub why: String,
}

impl SpaceReport {
    /// Reads what the image says.
    #[must_use]
    pub fn new(process: &abi::ImageProcess) -> Self {
        Self {
            pid: process.pid,
            mode: Arm::name(process.arm_mode).to_owned(),
            why: Arm::why(process.arm_reason).to_owned(),
        }
    }
}

/// Phases of the write window that lie outside of the window.
const FS_PHASES: [&str; 3] = [
    Phase::FreezeFs.name(),
    Phase::SwitchFs.name(),
    Phase::ThawFs.name(),
];

fn common_mode(spaces: &[SpaceReport]) -> &str {
    let mut modes = spaces.iter().map(|space| space.mode.as_str());
    match modes.next() {
        Some(first) if modes.all(|mode| mode == first) => first,
        Some(_) => "mixed",
        None => "none",
    }
}

/// Lazily armed pages, by who took the reference, or made the copy of shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finalized {
    /// The stop: they were in use, or about to change.
    pub stop: u64,
    /// Page faults of the targets.
    pub fault: u64,
    /// Changes of their mappings.
    pub notifier: u64,
    /// Writers that cause no page fault: ptrace, `/proc/PID/mem`.
    pub gup: u64,
    /// `write()` to shared files, and their truncation.
    #[serde(default)]
    pub file: u64,
    /// The snapshot's own pass after the window.
    pub background: u64,
}

impl Finalized {
    /// Each with its name.
    #[must_use]
    pub const fn by_path(&self) -> [(&'static str, u64); 6] {
        [
            ("stop", self.stop),
            ("fault", self.fault),
            ("notifier", self.notifier),
            ("gup", self.gup),
            ("file", self.file),
            ("background", self.background),
        ]
    }
}

/// One phase of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// `CLOCK_MONOTONIC` at its begin.
    pub start_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
}

impl Report {
    /// Reads what the module reported, and how each process was armed.
    #[must_use]
    pub fn new(take: &abi::Take, processes: &[abi::ImageProcess]) -> Self {
        let spaces: Vec<_> = processes.iter().map(SpaceReport::new).collect();
        let phases = Phase::ALL
            .iter()
            .zip(&take.phases)
            .filter(|(_, stamp)| stamp.begin_ns != 0)
            .map(|(phase, stamp)| PhaseReport {
                name: phase.name().to_owned(),
                start_ns: stamp.begin_ns,
                duration_ns: stamp.end_ns.saturating_sub(stamp.begin_ns),
            });
        Self {
            id: take.id,
            mode: common_mode(&spaces).to_owned(),
            spaces,
            window_ns: take.window_ns,
            shared_ns: take.shared_ns,
            state_ns: take.state_ns,
            stall_ns: take.stall_ns,
            pass_ns: take.pass_ns,
            rest_ns: take.rest_ns,
            finalized: Finalized {
                stop: take.counts.finalized[abi::PATH_STOP as usize],
                fault: take.counts.finalized[abi::PATH_FAULT as usize],
                notifier: take.counts.finalized[abi::PATH_NOTIFIER as usize],
                gup: take.counts.finalized[abi::PATH_GUP as usize],
                file: take.counts.finalized[abi::PATH_FILE as usize],
                background: take.counts.finalized[abi::PATH_BACKGROUND as usize],
            },
            pages_armed: take.counts.pages_armed,
            pages_copied: take.counts.pages_copied,
            pages_shared: take.counts.pages_shared,
            pages_shared_stop: take.counts.pages_shared_stop,
            image_bytes: take.image_bytes,
            archive_bytes: 0,
            processes: take.counts.processes,
            threads_parked: take.counts.threads_parked,
            threads_asleep: take.counts.threads_asleep,
            threads_woken: take.counts.threads_woken,
            phases: phases.collect(),
            drain: None,
            disk: None,
        }
    }

    /// Adds how the image was written.
    pub fn push_drain(&mut self, drained: &Drained) {
        self.archive_bytes = drained.bytes;
        self.drain = Some(DrainReport::new(drained));
    }

    /// Adds a phase that the controller timed itself.
    pub fn push_phase(&mut self, phase: Phase, start_ns: u64, duration_ns: u64) {
        self.phases.push(PhaseReport {
            name: phase.name().to_owned(),
            start_ns,
            duration_ns,
        });
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "snapshot {} ({})\n\n  phase          duration\n",
            self.id, self.mode
        );
        for phase in &self.phases {
            let inside = Phase::ALL
                .iter()
                .any(|known| known.in_window() && known.name() == phase.name);
            let mark = if inside {
                "  | window"
            } else if FS_PHASES.contains(&phase.name.as_str()) {
                "  : write window"
            } else {
                ""
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "  {:<13} {:>10}{mark}",
                phase.name,
                duration(phase.duration_ns)
            );
        }
        let threads = self.threads_parked + self.threads_asleep;
        let _ = write!(
            table,
            "\n  window        {:>10}\n  shared memory {:>10} of it\n  other state   {:>10} of it\n  longest stall {:>10} after it, of whoever was first to change \
             a page\n  background    {:>10} of work after it, with {} of rests\n  stood still   {:>10} threads of {} processes ({} parked, {} asleep in the kernel)\n  \
             pages armed   {:>10} ({})\n  pages copied  {:>10}\n  pages shared  {:>10} ({} of them copied in the window)\n",
            duration(self.window_ns),
            duration(self.shared_ns),
            duration(self.state_ns),
            duration(self.stall_ns),
            duration(self.pass_ns),
            duration(self.rest_ns),
            threads,
            self.processes,
            self.threads_parked,
            self.threads_asleep,
            self.pages_armed,
            bytes(self.pages_armed * 4096),
            self.pages_copied,
            self.pages_shared,
            self.pages_shared_stop,
        );
        if let Some(disk) = &self.disk {
            table += &disk.table();
        }
        if let Some(drain) = &self.drain {
            table += &drain.table(self.archive_bytes);
        }
        table
    }
}

/// A duration in the unit that suits it.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// A size in the unit that suits it.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", value / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.2} GiB", value / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use snap_common::abi;
    use snap_common::phase::Phase;

    use super::{Report, bytes, duration};

    fn process(pid: i32, mode: u32) -> abi::ImageProcess {
        // SAFETY: `struct ff_image_process` is made of integers alone.
        let mut process: abi::ImageProcess = unsafe { std::mem::zeroed() };
        process.pid = pid;
        process.arm_mode = mode;
        process.arm_reason = abi::ARM_DEFAULT;
        process
    }

    fn report() -> Report {
        // SAFETY: `struct ff_take` is made of integers alone.
        let mut take: abi::Take = unsafe { std::mem::zeroed() };
        take.id = 7;
        take.window_ns = 2_500_000;
        take.counts.pages_armed = 512;
        take.phases[Phase::Prepare as usize] = abi::Stamp {
            begin_ns: 100,
            end_ns: 1_100,
        };
        take.phases[Phase::Arm as usize] = abi::Stamp {
            begin_ns: 2_000,
            end_ns: 2_001_000,
        };
        Report::new(&take, &[process(1, abi::ARM_LAZY), process(2, abi::ARM_LAZY)])
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json = serde_json::to_value(report()).unwrap();
        for field in ["id", "mode", "window_ns", "pages_armed", "image_bytes", "phases"] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(json["phases"][1]["name"], "arm");
        assert_eq!(json["phases"][1]["start_ns"], 2_000);
        assert_eq!(json["phases"][1]["duration_ns"], 1_999_000);
    }

    #[test]
    fn each_process_has_its_mode() {
        let report = report();
        assert_eq!(report.mode, "lazy");
        assert_eq!(report.spaces[1].pid, 2);
        assert_eq!(report.spaces[1].why, "the default");
        // SAFETY: `struct ff_take` is made of integers alone.
        let take: abi::Take = unsafe { std::mem::zeroed() };
        let mixed = [process(1, abi::ARM_LAZY), process(2, abi::ARM_EAGER)];
        assert_eq!(Report::new(&take, &mixed).mode, "mixed");
    }

    #[test]
    fn phases_that_did_not_run_are_left_out() {
        assert_eq!(report().phases.len(), 2);
    }

    #[test]
    fn the_table_marks_the_window() {
        let table = report().table();
        let words = |name| {
            table
                .lines()
                .find(|line| line.trim_start().starts_with(name))
                .unwrap()
                .split_whitespace()
        };
        assert_eq!(
            words("arm").collect::<Vec<_>>(),
            ["arm", "2.00", "ms", "|", "window"]
        );
        assert_eq!(words("prepare").collect::<Vec<_>>(), ["prepare", "1.0", "µs"]);
        assert!(table.contains("512 (2.0 MiB)"), "{table}");
    }

    #[test]
    fn units_change_where_they_should() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_500), "1.5 µs");
        assert_eq!(duration(1_500_000_000), "1.50 s");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 30), "3.00 GiB");
    }
}
