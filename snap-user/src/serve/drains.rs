//! The images that are being written, by the ids of their snapshots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::stream::Cancel;
use crate::stream::progress::{Progress, Snapshot as Far};

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Drains(Arc<Mutex<BTreeMap<u64, Entry>>>);

#[derive(Debug)]
struct Entry {
    pids: Vec<i32>,
    progress: Arc<Progress>,
    cancel: Cancel,
}

/// One of them, as the API tells it. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Draining {
    /// The snapshot.
    snapshot: u64,
    /// The processes, as they were named; empty: all of them, or none.
    pids: Vec<i32>,
    /// How far it is.
    progress: Far,
}

/// Takes it off the list.
#[derive(Debug)]
pub(super) struct Listed {
    drains: Drains,
    snapshot: u64,
}

impl Drains {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists one, until what this returns is dropped.
    pub(super) fn list(
        &self,
        snapshot: u64,
        pids: Vec<i32>,
        progress: Arc<Progress>,
        cancel: Cancel,
    ) -> Listed {
        self.lock().insert(
            snapshot,
            Entry {
                pids,
                progress,
                cancel,
            },
        );
        Listed {
            drains: self.clone(),
            snapshot,
        }
    }

    /// Ends one; whether there is such a one.
    pub(super) fn cancel(&self, snapshot: u64) -> bool {
        let drains = self.lock();
        let entry = drains.get(&snapshot);
        if let Some(entry) = entry {
            entry.cancel.cancel();
        }
        entry.is_some()
    }

    /// All of them, by their ids.
    pub(super) fn all(&self) -> Vec<Draining> {
        let drains = self.lock();
        let all = drains.iter();
        all.map(|(snapshot, entry)| Draining {
            snapshot: *snapshot,
            pids: entry.pids.clone(),
            progress: entry.progress.snapshot(),
        })
        .collect()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.drains.lock().remove(&self.snapshot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Drains;
    use crate::stream::Cancel;
    use crate::stream::progress::Progress;

    #[test]
    fn one_is_listed_and_can_be_ended_as_long_as_it_lasts() {
        let drains = Drains::default();
        let cancel = Cancel::new();
        let listed = drains.list(7, vec![1], Arc::new(Progress::new()), cancel.clone());
        assert_eq!(drains.all().len(), 1);
        assert!(!drains.cancel(8));
        assert!(!cancel.is_cancelled());
        assert!(drains.cancel(7));
        assert!(cancel.is_cancelled());
        drop(listed);
        assert!(!drains.cancel(7));
        assert!(drains.all().is_empty());
    }
}
