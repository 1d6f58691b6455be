//! What Prometheus sees of the stores of active snapshots. What is said of a snapshot goes with it.

use std::collections::BTreeSet;

use prometheus::{GaugeVec, Opts, Registry};

use super::count;
use crate::disk::watch::{Outlook, Reading};

const LABELS: [&str; 2] = ["snapshot", "device"];

/// The gauges, by snapshot and device.
#[derive(Debug)]
pub(crate) struct StoreGauges {
    used: GaugeVec,
    size: GaugeVec,
    seconds: GaugeVec,
    overflowed: GaugeVec,
    shown: BTreeSet<(String, String)>,
}

impl StoreGauges {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = GaugeVec::new(Opts::new(name, help), &LABELS)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        Ok(Self {
            used: gauge(
                "freezeframe_store_used_bytes",
                "What an active snapshot's slice of the store holds, its metadata included",
            )?,
            size: gauge(
                "freezeframe_store_size_bytes",
                "The size of an active snapshot's slice of the store; when it is full, it overflows",
            )?,
            seconds: gauge(
                "freezeframe_store_overflow_seconds",
                "When the slice overflows at the present rate; +Inf while nothing is written, absent where it cannot",
            )?,
            overflowed: gauge(
                "freezeframe_store_overflowed",
                "1 when the slice takes no more, full or failed: writers get errors, the origin is whole",
            )?,
            shown: BTreeSet::new(),
        })
    }

    /// Shows these, and no others.
    pub(crate) fn show(&mut self, slices: &[(Reading, Outlook)]) {
        let mut shown = BTreeSet::new();
        for (reading, outlook) in slices {
            let labels = [reading.snapshot.as_str(), reading.top.as_str()];
            self.used
                .with_label_values(&labels)
                .set(count(reading.used_bytes));
            self.size
                .with_label_values(&labels)
                .set(count(reading.size_bytes));
            let overflowed = if reading.overflowed { 1.0 } else { 0.0 };
            self.overflowed.with_label_values(&labels).set(overflowed);
            if reading.can_overflow {
                let seconds = outlook.seconds.map_or(f64::INFINITY, count);
                self.seconds.with_label_values(&labels).set(seconds);
            } else {
                // It may never have been there.
                let _ = self.seconds.remove_label_values(&labels);
            }
            shown.insert((reading.snapshot.clone(), reading.top.clone()));
        }
        for (snapshot, top) in self.shown.difference(&shown) {
            for gauge in [&self.used, &self.size, &self.seconds, &self.overflowed] {
                // One of them may not have been there.
                let _ = gauge.remove_label_values(&[snapshot.as_str(), top.as_str()]);
            }
        }
        self.shown = shown;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use prometheus::{Registry, TextEncoder};

    use super::StoreGauges;
    use crate::disk::blockdev::Devno;
    use crate::disk::watch::{Reading, Trend};

    #[test]
    fn what_is_said_of_a_snapshot_goes_with_it() {
        let registry = Registry::new();
        let mut gauges = StoreGauges::new(&registry).unwrap();
        let mut show = |slices: &[Reading]| {
            let slices: Vec<_> = slices
                .iter()
                .map(|reading| (reading.clone(), Trend::new().add(Instant::now(), reading)))
                .collect();
            gauges.show(&slices);
            TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
        };
        let mut slice = Reading {
            snapshot: "00c0ffee".to_owned(),
            top: "ff-srv".to_owned(),
            slice: Devno { major: 253, minor: 3 },
            used_bytes: 4096,
            size_bytes: 8192,
            can_overflow: true,
            overflowed: false,
        };
        let text = show(std::slice::from_ref(&slice));
        for line in ["used_bytes", "size_bytes", "overflow_seconds", "overflowed"]
            .iter()
            .zip(["4096", "8192", "inf", "0"])
            .map(|(name, value)| {
                format!("freezeframe_store_{name}{{device=\"ff-srv\",snapshot=\"00c0ffee\"}} {value}\n")
            })
        {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        slice.can_overflow = false;
        assert!(!show(&[slice]).contains("overflow_seconds{"));
        assert_eq!(show(&[]), "");
    }
}
