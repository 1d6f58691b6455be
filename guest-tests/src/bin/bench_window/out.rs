//! Samples, written as they come.

use std::fs::File;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::hoard::Span;

/// How long after a window the writes count.
const AFTER_NS: u64 = 1_000_000_000;

/// The file.
pub struct Out(File);

impl Out {
    pub fn create(path: &str) -> Self {
        Self(File::create(path).expect("the samples can be written"))
    }

    /// One line.
    pub fn line(&mut self, line: &Value) {
        writeln!(self.0, "{line}").expect("the samples can be written");
    }

    /// One sample; the console sees that something happens.
    pub fn sample(&mut self, what: &str, method: &str, round: usize, case: &Value, found: &Value) {
        let mut line = json!({ "what": what, "method": method, "round": round });
        let target = line.as_object_mut().expect("made above");
        for part in [case, found] {
            target.extend(part.as_object().expect("named values").clone());
        }
        self.line(&line);
        let report = &found["report"];
        let phase = |name: &str| {
            let mut phases = report["phases"].as_array().into_iter().flatten();
            phases.find(|phase| phase["name"] == name)?["duration_ns"].as_u64()
        };
        let ns = match what {
            "freeze" => phase("freeze_tasks"),
            _ => found["ns"].as_u64().or_else(|| report["window_ns"].as_u64()),
        };
        let us = ns.map_or_else(|| "-".to_owned(), |ns| (ns / 1000).to_string());
        println!("{what} {case} round {round} {method}: {us} us");
    }
}

/// The writes that ended after `after`, and began within the second that follows.
pub fn from(writes: &[Span], after: u64) -> Vec<(u64, u64)> {
    writes
        .iter()
        .filter(|write| write.begin + write.length > after && write.begin < after + AFTER_NS)
        .map(|write| (write.begin, write.length))
        .collect()
}
