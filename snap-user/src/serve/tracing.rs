//! What the BPF programs count, as metrics; and who is watched while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram as ProtoHistogram, Metric, MetricFamily, MetricType};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use snap_common::hist::{self, Histogram};
use snap_common::trace::EventKind;

use crate::trace::{AttachState, OBJECT, TraceError, Tracer};

/// How often the ring buffer is emptied: it holds some thousand events.
const POLL: Duration = Duration::from_millis(100);

/// The tracer, if there is one.
#[derive(Clone)]
pub(super) struct Tracing {
    tracer: Option<Arc<Mutex<Tracer>>>,
    attached: IntGaugeVec,
    events: IntCounterVec,
}

impl Tracing {
    /// Loads the programs and registers their metrics. Without them everything else works, and one line says why.
    pub(super) fn start(registry: &Registry) -> prometheus::Result<Self> {
        let attached = IntGaugeVec::new(
            Opts::new(
                "freezeframe_bpf_attached",
                "1 while a BPF program sees its events; the COW probes do so only while a snapshot is open",
            ),
            &["program"],
        )?;
        let events = IntCounterVec::new(
            Opts::new(
                "freezeframe_bpf_events_total",
                "Rare events seen: phases, parked threads, frozen filesystems",
            ),
            &["kind"],
        )?;
        for kind in (1..).map_while(EventKind::from_raw) {
            events.with_label_values(&[name(kind)]);
        }
        let tracer = match Tracer::load(OBJECT) {
            Ok(tracer) => Some(Arc::new(Mutex::new(tracer))),
            Err(error) => {
                eprintln!("freezeframe: nothing is traced: {error}");
                None
            }
        };
        registry.register(Box::new(attached.clone()))?;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(BpfCollector::new(tracer.clone())?))?;
        let tracing = Self {
            tracer,
            attached,
            events,
        };
        if let Some(tracer) = tracing.lock() {
            let mut reasons = BTreeMap::<_, Vec<_>>::new();
            for (program, why) in tracer.missing() {
                reasons.entry(why).or_default().push(program);
            }
            for (why, programs) in reasons {
                eprintln!("freezeframe: not traced: {}: {why}", programs.join(", "));
            }
            tracing.note(&tracer);
        }
        Ok(tracing)
    }

    fn lock(&self) -> Option<MutexGuard<'_, Tracer>> {
        self.tracer
            .as_ref()
            .map(|tracer| tracer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, tracer: &Tracer) {
        for program in tracer.attached() {
            let seen = i64::from(program.state == AttachState::Attached);
            self.attached.with_label_values(&[&program.program]).set(seen);
        }
    }

    /// Empties the ring buffer for ever.
    pub(super) async fn poll(&self) {
        loop {
            if let Some(mut tracer) = self.lock() {
                tracer.poll_events(|event| {
                    if let Some(kind) = EventKind::from_raw(event.kind) {
                        self.events.with_label_values(&[name(kind)]).inc();
                    }
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Watches the COW breaks of processes until the guard is dropped.
    pub(super) fn watch(&self, pids: &[i32]) -> Watch {
        let tgids: Vec<_> = pids.iter().filter_map(|pid| u32::try_from(*pid).ok()).collect();
        self.apply(|tracer| tracer.watch(&tgids));
        Watch {
            tracing: self.clone(),
            tgids,
        }
    }

    fn apply(&self, change: impl FnOnce(&mut Tracer) -> Result<(), TraceError>) {
        if let Some(mut tracer) = self.lock() {
            if let Err(error) = change(&mut tracer) {
                eprintln!("freezeframe: {error}");
            }
            self.note(&tracer);
        }
    }
}

/// Somebody is watched as long as this lives.
pub(super) struct Watch {
    tracing: Tracing,
    tgids: Vec<u32>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tracing.apply(|tracer| tracer.unwatch(&self.tgids));
    }
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::PhaseBegin => "phase_begin",
        EventKind::PhaseEnd => "phase_end",
        EventKind::TaskStill => "task_still",
        EventKind::MmArmed => "mm_armed",
        EventKind::CgroupFreeze => "cgroup_freeze",
        EventKind::CgroupNotifyFrozen => "cgroup_notify_frozen",
        EventKind::FsFreeze => "fs_freeze",
        EventKind::FsThaw => "fs_thaw",
        EventKind::BdevFreeze => "bdev_freeze",
        EventKind::BdevThaw => "bdev_thaw",
    }
}

/// Reads the histogram and the losses out of the kernel when Prometheus asks.
struct BpfCollector {
    tracer: Option<Arc<Mutex<Tracer>>>,
    cow_breaks: Desc,
    lost: Desc,
}

impl BpfCollector {
    fn new(tracer: Option<Arc<Mutex<Tracer>>>) -> prometheus::Result<Self> {
        let desc =
            |name: &str, help: &str| Desc::new(name.into(), help.into(), Vec::new(), Default::default());
        Ok(Self {
            tracer,
            cow_breaks: desc(
                "freezeframe_cow_break_duration_seconds",
                "How long the targets' writes to write-protected pages took while a snapshot was open",
            )?,
            lost: desc(
                "freezeframe_bpf_events_lost_total",
                "Events and samples that found no room in the kernel; where it grows, the other figures are too low",
            )?,
        })
    }
}

impl Collector for BpfCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.cow_breaks, &self.lost]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut histogram, mut lost) = (Histogram::EMPTY, 0);
        if let Some(tracer) = &self.tracer {
            let tracer = tracer.lock().unwrap_or_else(PoisonError::into_inner);
            match (tracer.cow_breaks(), tracer.lost()) {
                (Ok(seen), Ok(missed)) => (histogram, lost) = (seen, missed),
                (Err(error), _) | (_, Err(error)) => {
                    eprintln!("freezeframe: {error}");
                    return Vec::new(); // no figure is better than a wrong one
                }
            }
        }
        let mut breaks = Metric::default();
        breaks.set_histogram(proto(&histogram));
        let mut counter = prometheus::proto::Counter::default();
        counter.set_value(float(lost));
        let mut losses = Metric::default();
        losses.set_counter(counter);
        vec![
            family(&self.cow_breaks, MetricType::HISTOGRAM, breaks),
            family(&self.lost, MetricType::COUNTER, losses),
        ]
    }
}

fn family(desc: &Desc, kind: MetricType, metric: Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}

/// The kernel's buckets as cumulative ones, in seconds; those below 1 µs and above 17 s are summed up.
fn proto(histogram: &Histogram) -> ProtoHistogram {
    let mut cumulative = 0;
    let mut buckets = Vec::new();
    for (number, count) in histogram.buckets.iter().enumerate() {
        cumulative += count;
        if (10..hist::BUCKETS - 1).contains(&number) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(float(hist::bound_ns(number)) / 1e9);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
    }
    let mut proto = ProtoHistogram::default();
    proto.set_sample_count(cumulative);
    proto.set_sample_sum(float(histogram.sum_ns) / 1e9);
    proto.set_bucket(buckets);
    proto
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use prometheus::proto::Bucket;
    use snap_common::hist::{Histogram, bucket};

    use super::proto;

    #[test]
    fn no_count_is_lost_on_the_way_to_prometheus() {
        let mut histogram = Histogram::EMPTY;
        for value in [1, 500, 1024, 1025, 40_000, 3_000_000, u64::MAX / 2] {
            histogram.buckets[bucket(value)] += 1;
        }
        histogram.sum_ns = 2_000_000_000;
        let proto = proto(&histogram);
        assert_eq!(proto.get_sample_count(), 7);
        assert!((proto.get_sample_sum() - 2.0).abs() < 1e-9);
        let buckets = proto.get_bucket();
        assert!((buckets[0].upper_bound() - 1.024e-6).abs() < 1e-12);
        assert_eq!(buckets[0].cumulative_count(), 3);
        assert_eq!(buckets[1].cumulative_count(), 4);
        assert_eq!(buckets.last().unwrap().cumulative_count(), 6);
        assert!(buckets.is_sorted_by_key(Bucket::cumulative_count));
    }
}
