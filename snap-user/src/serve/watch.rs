//! Watches the stores of active snapshots: their gauges, their probes, and what is said and done when one fills.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;

use super::overflow::{OnOverflow, Remedy};
use super::tracing::{StoreHold, Tracing};
use crate::disk::watch::{Level, Outlook, Reading, Trend, readings};
use crate::metrics::store::StoreGauges;
use crate::report::bytes;

/// Who watches.
pub(super) struct StoreWatch {
    interval: Duration,
    gauges: StoreGauges,
    remedy: Remedy,
    tracing: Tracing,
    /// New snapshots of the daemon's own.
    taken: UnboundedReceiver<StoreHold>,
    /// By snapshot and top.
    trends: BTreeMap<(String, String), Trend>,
    /// While there is a store.
    hold: Option<StoreHold>,
    /// The last failure, which is told once.
    failure: String,
}

impl StoreWatch {
    pub(super) fn new(
        interval: Duration,
        on_overflow: OnOverflow,
        registry: &Registry,
        tracing: Tracing,
        taken: UnboundedReceiver<StoreHold>,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            interval,
            gauges: StoreGauges::new(registry)?,
            remedy: Remedy::new(on_overflow),
            tracing,
            taken,
            trends: BTreeMap::new(),
            hold: None,
            failure: String::new(),
        })
    }

    /// Looks at every interval, and when the daemon has taken a snapshot.
    pub(super) async fn run(mut self) {
        let mut new = None;
        loop {
            self.look().await;
            drop(new.take()); // we hold the probes ourselves now
            new = tokio::select! {
                () = tokio::time::sleep(self.interval) => None,
                new = self.taken.recv() => new,
            };
        }
    }

    async fn look(&mut self) {
        match spawn_blocking(readings).await {
            Ok(Ok(readings)) => self.note(readings).await,
            Ok(Err(error)) => self.tell_failure(&error.to_string()),
            Err(error) => self.tell_failure(&error.to_string()),
        }
    }

    async fn note(&mut self, readings: Vec<Reading>) {
        self.failure.clear();
        if readings.is_empty() != self.hold.is_none() {
            self.hold = (!readings.is_empty()).then(|| self.tracing.watch_stores());
        }
        self.tracing.note_stores(&readings);
        let now = Instant::now();
        let mut trends = std::mem::take(&mut self.trends);
        let mut slices = Vec::new();
        for reading in readings {
            let key = (reading.snapshot.clone(), reading.top.clone());
            let mut trend = trends.remove(&key).unwrap_or_default();
            let outlook = trend.add(now, &reading);
            self.trends.insert(key, trend);
            slices.push((reading, outlook));
        }
        self.gauges.show(&slices);
        for (reading, outlook) in &slices {
            if let Some(level) = outlook.news {
                tell!("{}", event(level, reading, outlook));
            }
            self.remedy.apply(reading, outlook, &slices).await;
        }
    }

    fn tell_failure(&mut self, failure: &str) {
        if self.failure != failure {
            tell!("the stores are not watched: {failure}");
            failure.clone_into(&mut self.failure);
        }
    }
}

fn event(level: Level, reading: &Reading, outlook: &Outlook) -> String {
    let (id, top) = (&reading.snapshot, &reading.top);
    if level == Level::Overflowed {
        return format!(
            "the store of {id} on {top} has overflowed or failed (see `freezeframe ls`): writers get errors, the origin is whole; \
             unmount it, then `freezeframe extend {id}` or `freezeframe discard {id}`"
        );
    }
    let percent = u128::from(reading.used_bytes) * 100 / u128::from(reading.size_bytes.max(1));
    let rate = match outlook.seconds {
        Some(seconds) => format!(", full in {seconds} s at {}/s", bytes(outlook.bytes_per_second)),
        None => String::new(),
    };
    format!(
        "the store of {id} on {top} fills: {percent} % of {}{rate}; `freezeframe extend {id}` gives it more, `freezeframe commit \
         {id}` ends the snapshot",
        bytes(reading.size_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::event;
    use crate::disk::blockdev::Devno;
    use crate::disk::watch::{Level, Outlook, Reading};

    #[test]
    fn an_event_says_what_and_how_soon_and_what_to_do() {
        let reading = Reading {
            snapshot: "00c0ffee".to_owned(),
            top: "ff-srv".to_owned(),
            slice: Devno { major: 253, minor: 3 },
            used_bytes: 3 << 20,
            size_bytes: 4 << 20,
            can_overflow: true,
            overflowed: false,
        };
        let outlook = Outlook {
            bytes_per_second: 1 << 18,
            seconds: Some(4),
            level: Level::Close,
            news: Some(Level::Close),
        };
        let said = event(Level::Close, &reading, &outlook);
        assert!(
            said.contains("00c0ffee on ff-srv fills: 75 % of 4.0 MiB, full in 4 s at 256.0 KiB/s"),
            "{said}"
        );
        assert!(said.contains("`freezeframe extend 00c0ffee`"), "{said}");
        let said = event(Level::Overflowed, &reading, &outlook);
        assert!(
            said.contains("has overflowed") && said.contains("unmount"),
            "{said}"
        );
    }
}
