//! How an image was written.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{bytes, duration};
use crate::drain::Drained;
use crate::stream::progress::{Snapshot, StageSnapshot};

/// How an image was written. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReport {
    /// Names the image, and no other.
    pub image_id: String,
    /// 4 KiB pages that the processes had to copy before they wrote to them, or gave back, before they were let go.
    pub pages_broken: u64,
    /// The stages that it went through, in order.
    pub stages: Vec<StageReport>,
    /// Processes that are whole in an image that has a parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole: Vec<WholeReport>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// `read`, `compress`, `encrypt` or `write`.
    pub name: String,
    /// Bytes that it gave to the next one.
    pub bytes: u64,
    /// How long it waited for the one before.
    pub waited_ns: u64,
    /// How long it waited for the next one.
    pub blocked_ns: u64,
}

/// A process that is whole in an image that has a parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeReport {
    /// The process.
    pub pid: i32,
    /// Why.
    pub why: String,
}

impl DrainReport {
    /// Reads what a drain says.
    #[must_use]
    pub fn new(drained: &Drained) -> Self {
        Self {
            image_id: drained.image_id.clone(),
            pages_broken: drained.pages_broken,
            stages: stages(&drained.progress),
            whole: drained
                .whole
                .iter()
                .map(|(pid, why)| WholeReport {
                    pid: *pid,
                    why: why.clone(),
                })
                .collect(),
        }
    }

    /// The lines for people.
    pub(super) fn table(&self, written: u64) -> String {
        let read = self.stages.first().map_or(0, |stage| stage.bytes);
        let mut table = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            table,
            "  pages broken  {:>10} of them copied by their writers, or given back, before they were let go\n  written       {:>10}",
            self.pages_broken,
            bytes(written)
        );
        if read != written {
            let _ = write!(table, " of {}", bytes(read));
        }
        if let Some(slowest) = self.slowest() {
            let _ = write!(
                table,
                "; the others waited {} for {}",
                duration(slowest.1),
                slowest.0
            );
        }
        table.push('\n');
        for whole in &self.whole {
            let _ = writeln!(table, "  whole         {:>10}: {}", whole.pid, whole.why);
        }
        table
    }

    /// The stage that had everybody wait, and for how long.
    fn slowest(&self) -> Option<(&str, u64)> {
        let waited = |index: usize| {
            let before = index
                .checked_sub(1)
                .map_or(0, |before| self.stages[before].blocked_ns);
            let after = self.stages.get(index + 1).map_or(0, |after| after.waited_ns);
            before.max(after)
        };
        (0..self.stages.len())
            .map(|index| (self.stages[index].name.as_str(), waited(index)))
            .max_by_key(|(_, waited)| *waited)
            .filter(|(_, waited)| *waited != 0)
    }
}

fn stages(progress: &Snapshot) -> Vec<StageReport> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time that passed here"
    )]
    let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
    let stage = |name: &str, stage: StageSnapshot| StageReport {
        name: name.to_owned(),
        bytes: stage.bytes,
        waited_ns: nanoseconds(stage.waited_seconds),
        blocked_ns: nanoseconds(stage.blocked_seconds),
    };
    [
        stage("read", progress.read),
        stage("compress", progress.compress),
        stage("encrypt", progress.encrypt),
        stage("write", progress.write),
    ]
    .into_iter()
    .filter(|stage| stage.bytes != 0)
    .collect()
}
