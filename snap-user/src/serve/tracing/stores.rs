//! What goes into the stores of snapshots on disk, as metrics by the device whose writes they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use snap_common::store::{StoreCounts, kernel_dev, major_minor};

use super::{Tracing, proto, tell};
use crate::disk::blockdev::Devno;
use crate::disk::watch::{self, Reading};
use crate::trace::{TraceError, Tracer};

/// The probes of the stores are attached as long as this lives.
pub(in super::super) struct StoreHold(Tracing);

impl StoreHold {
    /// Leaves it to who watches the stores, who looks at once: there is a new one.
    pub(in super::super) fn hand_over(self) {
        let taken = self.0.taken.clone();
        // Where nobody watches any more, the daemon ends.
        let _ = taken.send(self);
    }
}

impl Drop for StoreHold {
    fn drop(&mut self) {
        self.0.apply(Tracer::unwatch_stores);
    }
}

impl Tracing {
    /// Counts what goes into stores until the guard is dropped.
    pub(in super::super) fn watch_stores(&self) -> StoreHold {
        self.apply(Tracer::watch_stores);
        if let Some(tracer) = self.lock() {
            tell(tracer.missing_stores());
        }
        StoreHold(self.clone())
    }

    /// Whose the counted stores are: those of `readings`. The counts of others are added up, and those that are none of ours
    /// thrown away.
    pub(in super::super) fn note_stores(&self, readings: &[Reading]) {
        let mut known = self.counted.lock();
        if let Some(mut tracer) = self.lock()
            && let Err(error) = known.update(&mut tracer, readings)
        {
            tell!("{error}");
        }
    }
}

/// Who knows whose the counts are.
#[derive(Clone)]
pub(in super::super) struct Counted(Arc<Mutex<Known>>);

/// Locked before the tracer.
#[derive(Default)]
struct Known {
    /// The top whose store has this number now.
    tops: BTreeMap<u32, String>,
    /// By top: what was counted of stores that are gone.
    gone: BTreeMap<String, StoreCounts>,
}

impl Known {
    fn update(&mut self, tracer: &mut Tracer, readings: &[Reading]) -> Result<(), TraceError> {
        let tops: BTreeMap<_, _> = readings
            .iter()
            .map(|reading| {
                (
                    kernel_dev(reading.slice.major, reading.slice.minor),
                    reading.top.clone(),
                )
            })
            .collect();
        for (store, counts) in tracer.store_counts()? {
            match (self.tops.get(&store), tops.get(&store)) {
                (Some(old), new) if new != Some(old) => {
                    self.gone
                        .entry(old.clone())
                        .or_insert(StoreCounts::ZERO)
                        .merge(&counts);
                    tracer.forget_store(store)?;
                }
                (None, None) if !is_slice(store) => tracer.forget_store(store)?,
                _ => {}
            }
        }
        for top in tops.values() {
            self.gone.entry(top.clone()).or_insert(StoreCounts::ZERO);
        }
        self.tops = tops;
        Ok(())
    }

    /// By top, over all its stores.
    fn sums(&self, now: &BTreeMap<u32, StoreCounts>) -> BTreeMap<String, StoreCounts> {
        let mut sums = self.gone.clone();
        for (store, counts) in now {
            if let Some(sum) = self.tops.get(store).and_then(|top| sums.get_mut(top)) {
                sum.merge(counts);
            }
        }
        sums
    }
}

fn is_slice(store: u32) -> bool {
    let (major, minor) = major_minor(store);
    watch::is_slice(Devno { major, minor })
}

impl Counted {
    pub(super) fn register(
        registry: &Registry,
        tracer: Option<Arc<Mutex<Tracer>>>,
    ) -> prometheus::Result<Self> {
        let counted = Self(Arc::default());
        registry.register(Box::new(StoreCollector::new(counted.clone(), tracer)?))?;
        Ok(counted)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the counts out of the kernel when Prometheus asks.
struct StoreCollector {
    counted: Counted,
    tracer: Option<Arc<Mutex<Tracer>>>,
    exceptions: Desc,
    copies: Desc,
    copying: Desc,
    whole: Desc,
}

impl StoreCollector {
    fn new(counted: Counted, tracer: Option<Arc<Mutex<Tracer>>>) -> prometheus::Result<Self> {
        let desc = |name: &str, help: &str| {
            let labels = vec!["device".to_owned()];
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        Ok(Self {
            counted,
            tracer,
            exceptions: desc(
                "freezeframe_store_exceptions_total",
                "First writes to a chunk of a device while a snapshot of it was active; each takes a chunk of the store",
            )?,
            copies: desc(
                "freezeframe_store_copies_total",
                "Of the exceptions, those that a chunk of the origin was copied for; the others were written whole",
            )?,
            copying: desc(
                "freezeframe_store_copy_duration_seconds",
                "How long the copies took: a chunk of the origin read, and written to the store",
            )?,
            whole: desc(
                "freezeframe_store_exception_duration_seconds",
                "How long the first write to a chunk waited until the store had it and the metadata about it",
            )?,
        })
    }
}

impl Collector for StoreCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.exceptions, &self.copies, &self.copying, &self.whole]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(tracer) = &self.tracer else {
            return Vec::new();
        };
        let known = self.counted.lock();
        let sums = match tracer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .store_counts()
        {
            Ok(now) => known.sums(&now),
            Err(error) => {
                tell!("{error}");
                return Vec::new(); // no figure is better than a wrong one
            }
        };
        drop(known);
        let series = |of: fn(&StoreCounts) -> prometheus::proto::Metric| {
            sums.iter()
                .map(|(top, counts)| proto::of_device(of(counts), top))
                .collect::<Vec<_>>()
        };
        vec![
            proto::family(
                &self.exceptions,
                MetricType::COUNTER,
                series(|counts| proto::counter(counts.exceptions)),
            ),
            proto::family(
                &self.copies,
                MetricType::COUNTER,
                series(|counts| proto::counter(counts.copies)),
            ),
            proto::family(
                &self.copying,
                MetricType::HISTOGRAM,
                series(|counts| proto::histogram(&counts.copying)),
            ),
            proto::family(
                &self.whole,
                MetricType::HISTOGRAM,
                series(|counts| proto::histogram(&counts.whole)),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use snap_common::store::{StoreCounts, kernel_dev};

    use super::Known;

    fn counts(exceptions: u64) -> StoreCounts {
        StoreCounts {
            exceptions,
            ..StoreCounts::ZERO
        }
    }

    #[test]
    fn a_device_keeps_its_counts_when_its_store_is_gone() {
        let top = || "ff-srv".to_owned();
        let known = Known {
            tops: [(kernel_dev(253, 4), top())].into(),
            gone: [(top(), counts(5)), ("ff-home".to_owned(), counts(1))].into(),
        };
        let now = BTreeMap::from([(kernel_dev(253, 4), counts(2)), (kernel_dev(253, 9), counts(100))]);
        let sums = known.sums(&now);
        let exceptions: Vec<_> = sums
            .iter()
            .map(|(top, counts)| (top.as_str(), counts.exceptions))
            .collect();
        assert_eq!(exceptions, [("ff-home", 1), ("ff-srv", 7)]);
    }
}
