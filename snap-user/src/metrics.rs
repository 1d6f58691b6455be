//! What Prometheus sees. Every metric is defined here or below, with the code that moves it.

mod disk;
mod drain;
pub(crate) mod store;

use prometheus::{
    CounterVec, Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec,
    Opts, Registry, TextEncoder, exponential_buckets,
};
use snap_common::phase::Phase;

use self::disk::DiskMetrics;
use self::drain::DrainMetrics;
use crate::how::Arm;
use crate::report::{Finalized, Report};

/// How a snapshot ended: the `result` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken, and its archive, if one was wanted, is whole.
    Ok,
    /// It failed; nothing is frozen and nothing is left of it.
    Error,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// The daemon's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    phases: HistogramVec,
    window: Histogram,
    state: Histogram,
    stall: Histogram,
    snapshots: IntCounterVec,
    pages_armed: IntCounter,
    pages_finalized: IntCounterVec,
    pass: CounterVec,
    processes_armed: IntCounterVec,
    image_bytes: IntCounter,
    disk: DiskMetrics,
    drain: DrainMetrics,
}

impl Metrics {
    /// Registers every metric; counters stand at 0 from the start.
    ///
    /// # Errors
    ///
    /// When two of them have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        // 1 µs, 2 µs, 4 µs … 16.8 s: a window is tens of microseconds to seconds.
        let bounds = exponential_buckets(1e-6, 2.0, 25)?;
        let phases = HistogramVec::new(
            HistogramOpts::new(
                "freezeframe_phase_duration_seconds",
                "How long one phase of a snapshot took; a slow phase inside the window is what to shorten",
            )
            .buckets(bounds.clone()),
            &["phase"],
        )?;
        let window = Histogram::with_opts(
            HistogramOpts::new(
                "freezeframe_window_duration_seconds",
                "How long the targets of a snapshot stood still, first stopped thread to last released one",
            )
            .buckets(bounds.clone()),
        )?;
        let state = Histogram::with_opts(
            HistogramOpts::new(
                "freezeframe_state_duration_seconds",
                "How much of the window the state besides memory and registers took; it grows with the descriptors",
            )
            .buckets(bounds.clone()),
        )?;
        let stall = Histogram::with_opts(
            HistogramOpts::new(
                "freezeframe_stall_duration_seconds",
                "Of each snapshot, the longest that a target was kept after the window, being first to change a page",
            )
            .buckets(bounds.clone()),
        )?;
        let snapshots = IntCounterVec::new(
            Opts::new(
                "freezeframe_snapshots_total",
                "Snapshots by result; an error leaves nothing frozen",
            ),
            &["result"],
        )?;
        let pages_armed = IntCounter::new(
            "freezeframe_pages_armed_total",
            "4 KiB pages made copy-on-write; each may cost the target one copy",
        )?;
        let pages_finalized = IntCounterVec::new(
            Opts::new(
                "freezeframe_pages_finalized_total",
                "Lazily armed 4 KiB pages by who held them; all but background was on somebody's way",
            ),
            &["path"],
        )?;
        let pass = CounterVec::new(
            Opts::new(
                "freezeframe_pass_seconds_total",
                "What the pass after the window cost that holds what is armed lazily: at work, and at rest",
            ),
            &["activity"],
        )?;
        let processes_armed = IntCounterVec::new(
            Opts::new(
                "freezeframe_processes_armed_total",
                "Processes snapshotted, by how their memory was armed",
            ),
            &["mode"],
        )?;
        let image_bytes = IntCounter::new("freezeframe_image_bytes_total", "Bytes of archives written")?;
        let build = IntGaugeVec::new(
            Opts::new("freezeframe_build_info", "Always 1; labels tell the build"),
            &["version"],
        )?;
        for phase in Phase::ALL {
            phases.with_label_values(&[phase.name()]);
        }
        for outcome in [Outcome::Ok, Outcome::Error] {
            snapshots.with_label_values(&[outcome.label()]);
        }
        for (path, _) in Finalized::default().by_path() {
            pages_finalized.with_label_values(&[path]);
        }
        for activity in ["work", "rest"] {
            pass.with_label_values(&[activity]);
        }
        for mode in Arm::NAMES {
            processes_armed.with_label_values(&[mode]);
        }
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(phases.clone()))?;
        registry.register(Box::new(window.clone()))?;
        registry.register(Box::new(state.clone()))?;
        registry.register(Box::new(stall.clone()))?;
        registry.register(Box::new(snapshots.clone()))?;
        registry.register(Box::new(pages_armed.clone()))?;
        registry.register(Box::new(pages_finalized.clone()))?;
        registry.register(Box::new(pass.clone()))?;
        registry.register(Box::new(processes_armed.clone()))?;
        registry.register(Box::new(image_bytes.clone()))?;
        registry.register(Box::new(build))?;
        let disk = DiskMetrics::new(&registry, &bounds)?;
        let drain = DrainMetrics::new(&registry)?;
        Ok(Self {
            registry,
            phases,
            window,
            state,
            stall,
            snapshots,
            pages_armed,
            pages_finalized,
            pass,
            processes_armed,
            image_bytes,
            disk,
            drain,
        })
    }

    /// Where other modules register theirs.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts a snapshot that was taken.
    pub fn observe(&self, report: &Report) {
        for phase in &report.phases {
            self.phases
                .with_label_values(&[&phase.name])
                .observe(seconds(phase.duration_ns));
        }
        self.window.observe(seconds(report.window_ns));
        self.state.observe(seconds(report.state_ns));
        self.stall.observe(seconds(report.stall_ns));
        for (activity, ns) in [("work", report.pass_ns), ("rest", report.rest_ns)] {
            self.pass.with_label_values(&[activity]).inc_by(seconds(ns));
        }
        for (path, pages) in report.finalized.by_path() {
            self.pages_finalized.with_label_values(&[path]).inc_by(pages);
        }
        for space in &report.spaces {
            self.processes_armed
                .with_label_values(&[space.mode.as_str()])
                .inc();
        }
        if let Some(disk) = &report.disk {
            self.disk.observe(disk);
        }
        if let Some(drain) = &report.drain {
            self.drain.observe(drain);
        }
        self.pages_armed.inc_by(report.pages_armed);
        self.image_bytes.inc_by(report.archive_bytes);
        self.snapshots.with_label_values(&[Outcome::Ok.label()]).inc();
    }

    /// Counts a snapshot that failed.
    pub fn observe_error(&self) {
        self.snapshots.with_label_values(&[Outcome::Error.label()]).inc();
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    ///
    /// When a metric cannot be encoded.
    pub fn encode(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn count(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 104 days")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::report::disk::{DeviceReport, DiskReport, FsReport};
    use crate::report::drain::{DrainReport, StageReport};
    use crate::report::{Finalized, PhaseReport, Report, SpaceReport};

    fn report() -> Report {
        let arm = PhaseReport {
            name: "arm".into(),
            start_ns: 5,
            duration_ns: 3_000,
        };
        Report {
            id: 1,
            mode: "lazy".into(),
            spaces: vec![SpaceReport {
                pid: 1,
                mode: "lazy".into(),
                why: "the default".into(),
            }],
            window_ns: 9_000,
            shared_ns: 0,
            state_ns: 3_000,
            stall_ns: 700,
            pass_ns: 5_000_000,
            rest_ns: 1_000_000,
            finalized: Finalized {
                background: 11,
                ..Finalized::default()
            },
            pages_armed: 17,
            pages_copied: 0,
            pages_shared: 0,
            pages_shared_stop: 0,
            image_bytes: 70_000,
            archive_bytes: 80_000,
            processes: 1,
            threads_parked: 1,
            threads_asleep: 0,
            threads_woken: 0,
            phases: vec![arm],
            drain: Some(DrainReport {
                image_id: "x".into(),
                pages_broken: 3,
                stages: vec![StageReport {
                    name: "read".into(),
                    bytes: 80_000,
                    waited_ns: 1_000_000_000,
                    blocked_ns: 2_000_000_000,
                }],
                whole: Vec::new(),
            }),
            disk: Some(disk_report()),
        }
    }

    fn disk_report() -> DiskReport {
        DiskReport {
            id: Some("1a2b3c4d".into()),
            write_window_ns: 50_000_000,
            filesystems: vec![FsReport {
                mount: "/srv".into(),
                kind: "ext4".into(),
                device: "/dev/mapper/ff-srv".into(),
                sync_ns: 1,
                freeze_ns: 3_000,
                thaw_ns: 2,
                sync_pages: 7,
                freeze_pages: 5,
                read_only: None,
            }],
            devices: vec![DeviceReport {
                top: "ff-srv".into(),
                suspend_ns: 1,
                switch_ns: 2,
                store_bytes: 3,
                can_overflow: false,
                overflows_after_bytes: None,
            }],
            unions: Vec::new(),
        }
    }

    #[test]
    fn everything_is_there_before_the_first_snapshot() {
        let text = Metrics::new().unwrap().encode().unwrap();
        assert!(
            text.contains("freezeframe_snapshots_total{result=\"ok\"} 0"),
            "{text}"
        );
        assert!(text.contains("freezeframe_snapshots_total{result=\"error\"} 0"));
        assert!(text.contains("freezeframe_phase_duration_seconds_count{phase=\"thaw_tasks\"} 0"));
        assert!(text.contains("freezeframe_build_info{version="));
    }

    #[test]
    fn every_metric_moves() {
        let metrics = Metrics::new().unwrap();
        metrics.observe(&report());
        metrics.observe_error();
        let text = metrics.encode().unwrap();
        for line in [
            "freezeframe_phase_duration_seconds_count{phase=\"arm\"} 1",
            "freezeframe_phase_duration_seconds_bucket{phase=\"arm\",le=\"0.000004\"} 1",
            "freezeframe_window_duration_seconds_count 1",
            "freezeframe_state_duration_seconds_bucket{le=\"0.000004\"} 1",
            "freezeframe_stall_duration_seconds_bucket{le=\"0.000001\"} 1",
            "freezeframe_pass_seconds_total{activity=\"work\"} 0.005",
            "freezeframe_pass_seconds_total{activity=\"rest\"} 0.001",
            "freezeframe_pages_finalized_total{path=\"background\"} 11",
            "freezeframe_processes_armed_total{mode=\"lazy\"} 1",
            "freezeframe_snapshots_total{result=\"ok\"} 1",
            "freezeframe_snapshots_total{result=\"error\"} 1",
            "freezeframe_pages_armed_total 17",
            "freezeframe_image_bytes_total 80000",
            "freezeframe_pages_broken_total 3",
            "freezeframe_stream_bytes_total{stage=\"read\"} 80000",
            "freezeframe_stream_wait_seconds_total{neighbour=\"after\",stage=\"read\"} 2",
            "freezeframe_write_window_duration_seconds_count 1",
            "freezeframe_filesystem_phase_duration_seconds_count{filesystem=\"/srv\",phase=\"freeze\"} 1",
            "freezeframe_device_phase_duration_seconds_count{device=\"ff-srv\",phase=\"switch\"} 1",
            "freezeframe_filesystem_pages_written_total{filesystem=\"/srv\",phase=\"sync\"} 7",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
