//! What the BPF programs count, as metrics; and who is watched while.

mod proto;
mod stores;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use snap_common::hist::Histogram;
use snap_common::trace::EventKind;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(super) use self::stores::{Counted, StoreHold};
use crate::trace::{AttachState, OBJECT, TraceError, Tracer};

/// How often the ring buffer is emptied: it holds some thousand events.
const POLL: Duration = Duration::from_millis(100);

/// The tracer, if there is one.
#[derive(Clone)]
pub(super) struct Tracing {
    tracer: Option<Arc<Mutex<Tracer>>>,
    attached: IntGaugeVec,
    events: IntCounterVec,
    counted: Counted,
    taken: UnboundedSender<StoreHold>,
}

impl Tracing {
    /// Loads the programs and registers their metrics. Without them everything else works, and one line says why. The other end
    /// hears of the stores of new snapshots, by what holds their probes.
    pub(super) fn start(registry: &Registry) -> prometheus::Result<(Self, UnboundedReceiver<StoreHold>)> {
        let attached = IntGaugeVec::new(
            Opts::new(
                "freezeframe_bpf_attached",
                "1 while a BPF program sees its events; the COW probes do so only while a snapshot is open, or active on disk",
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
                tell!("nothing is traced: {error}");
                None
            }
        };
        registry.register(Box::new(attached.clone()))?;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(BpfCollector::new(tracer.clone())?))?;
        let (taken, heard) = unbounded_channel();
        let tracing = Self {
            counted: Counted::register(registry, tracer.clone())?,
            tracer,
            attached,
            events,
            taken,
        };
        if let Some(tracer) = tracing.lock() {
            tell(tracer.missing());
            tracing.note(&tracer);
        }
        Ok((tracing, heard))
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
                tell!("{error}");
            }
            self.note(&tracer);
        }
    }
}

/// One line for each reason.
fn tell<'a>(missing: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut reasons = BTreeMap::<_, Vec<_>>::new();
    for (program, why) in missing {
        reasons.entry(why).or_default().push(program);
    }
    for (why, programs) in reasons {
        tell!("not traced: {}: {why}", programs.join(", "));
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
                    tell!("{error}");
                    return Vec::new(); // no figure is better than a wrong one
                }
            }
        }
        vec![
            proto::family(
                &self.cow_breaks,
                MetricType::HISTOGRAM,
                vec![proto::histogram(&histogram)],
            ),
            proto::family(&self.lost, MetricType::COUNTER, vec![proto::counter(lost)]),
        ]
    }
}
