//! `freezeframe commit`: what was written since the snapshot goes back into the origin, under whoever writes on.
//!
//! Each step is on disk before the next one, so that it can be called again after a kill or a crash anywhere:
//!
//! 1. the record says `merging`: from here the origin is neither old nor new, and nothing ever mounts it;
//! 2. the tops are switched from `snapshot` to `snapshot-merge`, and the kernel merges, whether we live or not;
//! 3. a top whose slice is empty gets its old table back, and its device counts as merged;
//! 4. origins and slices are removed, then the record, then the markers.

mod left;
mod progress;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::disk::blockdev::SECTOR;
use crate::disk::dm::{Dm, SnapshotStatus};
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::exceptions::{self, Content};
use crate::disk::live::{self, Live};
use crate::disk::record::{Record, State};
use crate::disk::store::Store;
use crate::disk::{find, marker};

use left::{left, left_of};
use progress::Line;
pub use progress::Progress;

/// How often we look how far it is, at first and at last.
const POLL: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];

/// What a commit did; `--json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Committed {
    /// The snapshot, which is gone now.
    pub id: String,
    /// What was left to merge when we began.
    pub merged_bytes: u64,
    /// How long the whole commit took.
    pub merge_ns: u64,
    /// The devices that run on their old tables again.
    pub tops: Vec<String>,
}

/// Commits a snapshot.
///
/// # Errors
///
/// When it is in a state that cannot be committed, its origin is being read, or a disk fails.
pub fn commit(prefix: &str, progress: Progress) -> Result<Committed, DiskError> {
    let (device, id) = find::snapshot(prefix)?;
    commit_on(&device, &id, progress)
}

/// The same, where store and ID are known: a take that failed behind the switch takes itself back by this.
///
/// # Errors
///
/// As [`commit`].
pub fn commit_on(device: &Path, id: &str, progress: Progress) -> Result<Committed, DiskError> {
    let dm = Dm::open()?;
    let clock = Instant::now();
    let record = begin(&dm, device, id)?;
    // Unlocked: a merge takes long, and other snapshots on the store have their own lives.
    let merged_bytes = wait(&dm, device, &record, progress)?;
    finish(&dm, device, id)?;
    Ok(Committed {
        id: id.to_owned(),
        merged_bytes,
        merge_ns: u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX),
        tops: record.devices.into_iter().map(|device| device.top).collect(),
    })
}

/// Steps 1 and 2.
fn begin(dm: &Dm, device: &Path, id: &str) -> Result<Record, DiskError> {
    let mut store = Store::lock(device)?;
    let record = store.record(id)?.clone();
    let before = live::all(dm, &record)?;
    check(dm, device, &record, &before)?;
    if record.state != State::Merging {
        store.record_mut(id)?.state = State::Merging;
        store.write()?;
    }
    for (index, live) in before.iter().enumerate() {
        let top = &record.devices[index];
        if top.merged || (*live == Live::Old && content(device, &record, index)? == Content::Nothing) {
            continue;
        }
        let stopped =
            *live == Live::Merging && dm.snapshot_status(&top.top)? == Some(SnapshotStatus::MergeFailed);
        if stopped {
            // A merge cannot be handed to a merge, so by way of a snapshot.
            dm.switch(
                &top.top,
                &live::snapshot_table(dm, device, &record, index, "snapshot")?,
            )?;
        }
        if *live != Live::Merging || stopped {
            let table = live::snapshot_table(dm, device, &record, index, "snapshot-merge")?;
            if let Err(error) = dm.switch(&top.top, &table) {
                give_up(dm, &mut store, &record, &before)?;
                return Err(error.into());
            }
        }
    }
    Ok(store.record(id)?.clone())
}

/// A refused switch leaves everything as it was: where no merge has begun, the snapshot is active again. A top that is another
/// than before may have merged in between.
fn give_up(dm: &Dm, store: &mut Store, record: &Record, before: &[Live]) -> Result<(), DiskError> {
    if record.state != State::Merging && live::all(dm, record)? == before {
        store.record_mut(&record.id)?.state = record.state;
        store.write()?;
    }
    Ok(())
}

fn content(device: &Path, record: &Record, index: usize) -> Result<Content, DiskError> {
    exceptions::look(device, &record.devices[index].extents).doing(|| {
        format!(
            "read the slice of {} on {}",
            record.devices[index].top,
            device.display()
        )
    })
}

fn check(dm: &Dm, device: &Path, record: &Record, live: &[Live]) -> Result<(), DiskError> {
    let state = |why: String, remedy: String| DiskError::State {
        what: "commit",
        id: record.id.clone(),
        why,
        remedy,
    };
    let id = &record.id;
    let effective = live::effective(record, live);
    match effective {
        State::Armed => {
            let why = "the snapshot was never taken, and nothing was written to its store".to_owned();
            return Err(state(why, format!("clean up with `freezeframe discard {id}`")));
        }
        State::Discarding => {
            let why = "it is being discarded".to_owned();
            return Err(state(why, format!("finish that with `freezeframe discard {id}`")));
        }
        State::Active | State::Merging => {}
    }
    for (index, live) in live.iter().enumerate() {
        let top = &record.devices[index];
        if top.merged {
            continue;
        }
        match live {
            Live::Snapshot | Live::Merging | Live::Blocked => {}
            // Never switched, or switched back when the merge was done.
            Live::Old if content(device, record, index)? == Content::Nothing => {}
            Live::Old if effective == State::Merging => live::unused(
                dm,
                &top.top,
                || format!("go on committing {id}"),
                |_| {
                    "it runs on a half-merged origin and may be damaged: unmount it at once, commit again, and check it with fsck"
                        .to_owned()
                },
            )?,
            Live::Old => {
                let why = format!(
                    "{} runs on its old table: it was started without its store, and may have been written to since",
                    top.top
                );
                return Err(state(
                    why,
                    format!("give the snapshot up with `freezeframe discard {id}`"),
                ));
            }
            Live::Missing => {
                let why = format!("{} is not there", top.top);
                return Err(state(
                    why,
                    "start the layers with `freezeframe layer up`".to_owned(),
                ));
            }
            Live::Other(what) => {
                let why = format!("{} has {what}", top.top);
                return Err(state(
                    why,
                    "somebody else has changed it: see `dmsetup table`".to_owned(),
                ));
            }
        }
        if live::status(dm, top, live)? == Some(SnapshotStatus::Invalid) {
            let why = format!(
                "the store of {} has failed, and what was written is lost (see `dmesg`)",
                top.top
            );
            return Err(state(
                why,
                format!("unmount it, and go back to the instant with `freezeframe discard {id}`"),
            ));
        }
        origin_is_unused(dm, record, index)?;
    }
    Ok(())
}

/// Whoever reads the frozen origin would see it change.
fn origin_is_unused(dm: &Dm, record: &Record, index: usize) -> Result<(), DiskError> {
    let id = &record.id;
    let view = record.view(index).name;
    if let Some(info) = dm.info(&view)? {
        let mount = live::mounts_of(info.devno)?.into_iter().next();
        let (user, remedy) = match mount {
            Some(mount) => (
                format!("mounted on {}", mount.point.display()),
                format!(
                    "unmount it with `freezeframe origin {id} --unmount {}`",
                    mount.point.display()
                ),
            ),
            None => (
                format!("by {view}"),
                format!("remove that with `dmsetup remove {view}`"),
            ),
        };
        return Err(DiskError::OriginInUse {
            id: id.clone(),
            user,
            remedy,
        });
    }
    let origin = record.origin(index).name;
    // Once by the top's own table.
    if let Some(user) = live::user_of(dm, &origin, 1)? {
        return Err(DiskError::OriginInUse {
            id: id.clone(),
            user: format!("{origin} {user}"),
            remedy: "wait until that is done".to_owned(),
        });
    }
    Ok(())
}

/// Until the kernel has merged everything. Bytes that it had to merge.
fn wait(dm: &Dm, store: &Path, record: &Record, progress: Progress) -> Result<u64, DiskError> {
    let clock = Instant::now();
    let mut first = None;
    let mut line = Line::new(progress);
    loop {
        let left = left(dm, store, record)?;
        let from = *first.get_or_insert(left);
        if left == 0 {
            line.end(from, clock.elapsed());
            return Ok(from * SECTOR);
        }
        line.show(from, left, clock.elapsed());
        sleep(pause(clock.elapsed()));
    }
}

/// How long until the next look, after so long a merge: by so much it may be told too long.
fn pause(elapsed: Duration) -> Duration {
    let [first, last] = POLL;
    (elapsed / 16).clamp(first, last)
}

/// Steps 3 and 4.
fn finish(dm: &Dm, device: &Path, id: &str) -> Result<(), DiskError> {
    let mut store = Store::lock(device)?;
    let Ok(record) = store.record(id).cloned() else {
        return Ok(()); // another commit was faster
    };
    for index in 0..record.devices.len() {
        let top = &record.devices[index];
        // Somebody may have interfered since we waited, and what is not merged would be lost.
        if left_of(dm, device, &record, index)? > 0 {
            return Err(DiskError::State {
                what: "commit",
                id: id.to_owned(),
                why: format!("{} merges again", top.top),
                remedy: "another commit has begun anew: commit again".to_owned(),
            });
        }
        if live::live(dm, &record, index)? == Live::Merging {
            dm.switch(&top.top, &live::old_table(top)?)?;
        }
        if !top.merged {
            store.record_mut(id)?.devices[index].merged = true;
            store.write()?;
        }
    }
    live::remove_parts(dm, &record)?;
    store.state_mut().remove(id);
    store.write()?;
    for top in &record.devices {
        marker::remove(&top.top, id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;

    #[test]
    fn a_short_merge_is_looked_at_more_often() {
        let after = |ms| pause(Duration::from_millis(ms)).as_millis();
        assert_eq!([0, 100, 160].map(after), [10, 10, 10]);
        assert_eq!([320, 1600, 3200].map(after), [20, 100, 200]);
        assert_eq!([4000, 60_000].map(after), [250, 250]);
    }
}
