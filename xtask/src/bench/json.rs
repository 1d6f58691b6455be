//! Parts of a sample: spans of time, the phases of a report of `freezeframe take --json`.

use anyhow::{Context, Result};
use serde_json::Value;

/// Something that took time, on the guest's `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When.
    pub begin: u64,
    /// How long.
    pub length: u64,
}

impl Span {
    /// When it was over.
    pub const fn end(self) -> u64 {
        self.begin + self.length
    }
}

/// A number that must be there.
pub fn number(value: &Value, name: &str) -> Result<u64> {
    value[name].as_u64().with_context(|| format!("no {name}"))
}

/// Pairs of a begin and a length.
pub fn spans(list: &Value) -> Vec<Span> {
    let pairs = list.as_array().into_iter().flatten();
    let span = |pair: &Value| {
        Some(Span {
            begin: pair[0].as_u64()?,
            length: pair[1].as_u64()?,
        })
    };
    pairs.filter_map(span).collect()
}

/// A phase of a report.
pub fn phase(report: &Value, name: &str) -> Result<Span> {
    let mut phases = report["phases"].as_array().into_iter().flatten();
    let phase = phases.find(|phase| phase["name"] == name);
    let phase = phase.with_context(|| format!("no phase {name}"))?;
    Ok(Span {
        begin: number(phase, "start_ns")?,
        length: number(phase, "duration_ns")?,
    })
}

/// The window of a report.
pub fn stood_still(report: &Value) -> Result<Span> {
    let begin = phase(report, "freeze_tasks")?.begin;
    let length = phase(report, "thaw_tasks")?.end() - begin;
    Ok(Span { begin, length })
}
