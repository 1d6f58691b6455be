//! What Prometheus sees of the disk's half.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::seconds;
use crate::report::disk::{DeviceReport, DiskReport, FsReport};

/// The metrics of filesystems that freeze and devices that are switched. Their labels `filesystem` and `device` have as many values
/// as the machine has of those.
#[derive(Debug)]
pub(super) struct DiskMetrics {
    write_window: Histogram,
    filesystems: HistogramVec,
    devices: HistogramVec,
    pages: IntCounterVec,
}

impl DiskMetrics {
    pub(super) fn new(registry: &Registry, bounds: &[f64]) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let write_window = Histogram::with_opts(histogram(
            "freezeframe_write_window_duration_seconds",
            "How long writers to the filesystems of a snapshot stood, first one that froze to last one thawed",
        ))?;
        let filesystems = HistogramVec::new(
            histogram(
                "freezeframe_filesystem_phase_duration_seconds",
                "How long each filesystem took to sync (before the write window), freeze and thaw (in it); a slow freeze has \
                 much to write back",
            ),
            &["phase", "filesystem"],
        )?;
        let devices = HistogramVec::new(
            histogram(
                "freezeframe_device_phase_duration_seconds",
                "How long each device took to suspend and to switch, in the write window; a slow suspend waits for I/O under way",
            ),
            &["phase", "device"],
        )?;
        let pages = IntCounterVec::new(
            Opts::new(
                "freezeframe_filesystem_pages_written_total",
                "4 KiB pages written back for snapshots, before the write window (sync) and in it (freeze)",
            ),
            &["phase", "filesystem"],
        )?;
        registry.register(Box::new(write_window.clone()))?;
        registry.register(Box::new(filesystems.clone()))?;
        registry.register(Box::new(devices.clone()))?;
        registry.register(Box::new(pages.clone()))?;
        Ok(Self {
            write_window,
            filesystems,
            devices,
            pages,
        })
    }

    pub(super) fn observe(&self, report: &DiskReport) {
        self.write_window.observe(seconds(report.write_window_ns));
        for filesystem in &report.filesystems {
            self.observe_filesystem(filesystem);
        }
        for device in &report.devices {
            self.observe_device(device);
        }
    }

    fn observe_filesystem(&self, report: &FsReport) {
        for (phase, ns) in [
            ("sync", report.sync_ns),
            ("freeze", report.freeze_ns),
            ("thaw", report.thaw_ns),
        ] {
            let labels = [phase, report.mount.as_str()];
            self.filesystems.with_label_values(&labels).observe(seconds(ns));
        }
        for (phase, pages) in [("sync", report.sync_pages), ("freeze", report.freeze_pages)] {
            self.pages
                .with_label_values(&[phase, report.mount.as_str()])
                .inc_by(pages);
        }
    }

    fn observe_device(&self, report: &DeviceReport) {
        for (phase, ns) in [("suspend", report.suspend_ns), ("switch", report.switch_ns)] {
            let labels = [phase, report.top.as_str()];
            self.devices.with_label_values(&labels).observe(seconds(ns));
        }
    }
}
