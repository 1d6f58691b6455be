//! How images are written, as metrics.

use prometheus::{CounterVec, IntCounter, IntCounterVec, Opts, Registry};

use super::seconds;
use crate::report::drain::DrainReport;
use crate::stream::progress::Stage;

/// Counters of the stages that images go through.
#[derive(Debug)]
pub(super) struct DrainMetrics {
    bytes: IntCounterVec,
    waits: CounterVec,
    broken: IntCounter,
}

impl DrainMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let bytes = IntCounterVec::new(
            Opts::new(
                "freezeframe_stream_bytes_total",
                "Bytes of images that came out of each stage of the pipeline",
            ),
            &["stage"],
        )?;
        let waits = CounterVec::new(
            Opts::new(
                "freezeframe_stream_wait_seconds_total",
                "How long each stage waited: for the one before it, or for the next one; the slowest is the one that the others wait for",
            ),
            &["stage", "neighbour"],
        )?;
        let broken = IntCounter::new(
            "freezeframe_pages_broken_total",
            "4 KiB pages that processes had to copy before they wrote to them, or gave back, while their image was written; \
             a faster drain makes them fewer",
        )?;
        for stage in Stage::ALL {
            bytes.with_label_values(&[stage.name()]);
            for neighbour in ["before", "after"] {
                waits.with_label_values(&[stage.name(), neighbour]);
            }
        }
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(waits.clone()))?;
        registry.register(Box::new(broken.clone()))?;
        Ok(Self { bytes, waits, broken })
    }

    /// Counts an image that was written.
    pub(super) fn observe(&self, drain: &DrainReport) {
        self.broken.inc_by(drain.pages_broken);
        for stage in &drain.stages {
            let name = stage.name.as_str();
            self.bytes.with_label_values(&[name]).inc_by(stage.bytes);
            for (neighbour, ns) in [("before", stage.waited_ns), ("after", stage.blocked_ns)] {
                self.waits
                    .with_label_values(&[name, neighbour])
                    .inc_by(seconds(ns));
            }
        }
    }
}
