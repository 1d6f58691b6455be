//! What is still to be merged. A merge is over when the store says so, not when nobody merges any more: a top may have been
//! removed, or changed by somebody else, in the midst of it.

use std::path::Path;

use crate::disk::dm::{Dm, DmError, SnapshotStatus};
use crate::disk::error::DiskError;
use crate::disk::exceptions::Content;
use crate::disk::live::{self, Live};
use crate::disk::record::Record;
use crate::disk::store::Store;

use super::content;

/// Why nobody merges what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// At an error of a disk.
    Failed,
    /// The store has failed.
    Invalid,
    /// The top does not merge any more.
    Gone,
}

/// Sectors that are still to be merged.
pub(super) fn left(dm: &Dm, store: &Path, record: &Record) -> Result<u64, DiskError> {
    let mut sum = 0;
    for index in 0..record.devices.len() {
        sum += left_of(dm, store, record, index)?;
    }
    Ok(sum)
}

/// Sectors of the N-th device that are still to be merged.
pub(super) fn left_of(dm: &Dm, store: &Path, record: &Record, index: usize) -> Result<u64, DiskError> {
    let device = &record.devices[index];
    if device.merged {
        return Ok(0);
    }
    let live = live::live(dm, record, index)?;
    let status = match live::status(dm, device, &live) {
        Err(DmError::Missing(_)) => None, // removed since
        other => other?,
    };
    let found = judge(&live, status, device.store_sectors(), || {
        content(store, record, index)
    })?;
    match found {
        Ok(sectors) => Ok(sectors),
        // Looked at after the slice, which may be somebody else's once the record is gone.
        Err(Stopped::Gone) if ended(store, record, index)? => Ok(0),
        Err(stopped) => Err(refusal(record, index, &live, stopped)),
    }
}

/// Sectors that are left of a slice of so many, or why nobody merges them.
fn judge<E>(
    live: &Live,
    status: Option<SnapshotStatus>,
    slice: u64,
    content: impl FnOnce() -> Result<Content, E>,
) -> Result<Result<u64, Stopped>, E> {
    Ok(match (live, status) {
        (Live::Merging, Some(SnapshotStatus::Used { used, metadata, .. })) => {
            Ok(used.saturating_sub(metadata))
        }
        // It was switched between two looks, and the next one tells.
        (Live::Merging, Some(SnapshotStatus::Unknown) | None) => Ok(1),
        (Live::Merging, Some(SnapshotStatus::MergeFailed)) => Err(Stopped::Failed),
        (Live::Merging, Some(SnapshotStatus::Invalid)) => Err(Stopped::Invalid),
        // The kernel shows no figures once it has overflowed; full it was, and the slice itself tells when it is empty.
        (Live::Merging, Some(SnapshotStatus::Overflow)) => match content()? {
            Content::Changes => Ok(slice),
            Content::Nothing => Ok(0),
        },
        // What is written to it goes to the store, whatever the store has now.
        (Live::Snapshot, _) => Err(Stopped::Gone),
        (Live::Missing | Live::Old | Live::Blocked | Live::Other(_), _) => match content()? {
            Content::Changes => Err(Stopped::Gone),
            Content::Nothing => Ok(0),
        },
    })
}

/// Whether another commit has ended it meanwhile.
fn ended(store: &Path, record: &Record, index: usize) -> Result<bool, DiskError> {
    let store = Store::open(store)?;
    let now = store.state().record(&record.id);
    Ok(now.is_none_or(|now| now.devices[index].merged))
}

fn refusal(record: &Record, index: usize, live: &Live, stopped: Stopped) -> DiskError {
    let top = &record.devices[index].top;
    let state = |why: String, remedy: &str| DiskError::State {
        what: "commit",
        id: record.id.clone(),
        why,
        remedy: remedy.to_owned(),
    };
    match (stopped, live) {
        (Stopped::Failed, _) => DiskError::MergeFailed {
            id: record.id.clone(),
            top: top.clone(),
        },
        (Stopped::Invalid, _) => state(
            format!("the store of {top} has failed during the merge (see `dmesg`)"),
            "check the disks; what is not merged yet is still on the store",
        ),
        (Stopped::Gone, Live::Missing) => state(
            format!("{top} is not there, and not all of it is merged"),
            "start it with `freezeframe layer up`, then commit again",
        ),
        (Stopped::Gone, Live::Old) => state(
            format!("{top} runs on its old table, and not all of it is merged"),
            "unmount it at once, commit again, and check it with fsck",
        ),
        (Stopped::Gone, Live::Other(what)) => state(
            format!("{top} has {what}, and not all of it is merged"),
            "somebody else has changed it: see `dmsetup table`, then commit again",
        ),
        (Stopped::Gone, Live::Snapshot | Live::Merging | Live::Blocked) => state(
            format!("{top} does not merge any more, and not all of it is merged"),
            "commit again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::{Stopped, judge, refusal};
    use crate::disk::dm::SnapshotStatus;
    use crate::disk::exceptions::Content;
    use crate::disk::live::Live;
    use crate::disk::record::tests::record;

    fn left(live: &Live, status: Option<SnapshotStatus>, content: Content) -> Result<u64, Stopped> {
        judge(live, status, 4096, || Ok::<_, Infallible>(content)).unwrap_or_else(|never| match never {})
    }

    #[test]
    fn what_does_not_merge_is_merged_only_where_the_store_is_empty() {
        let others = [
            Live::Missing,
            Live::Old,
            Live::Blocked,
            Live::Other("a table".to_owned()),
        ];
        for live in &others {
            assert_eq!(left(live, None, Content::Changes), Err(Stopped::Gone), "{live:?}");
            assert_eq!(left(live, None, Content::Nothing), Ok(0), "{live:?}");
        }
        // More may be written to the store at any time.
        for content in [Content::Changes, Content::Nothing] {
            assert_eq!(left(&Live::Snapshot, None, content), Err(Stopped::Gone));
        }
    }

    #[test]
    fn what_merges_tells_itself() {
        let merging = |status, content| left(&Live::Merging, status, content);
        let used = |used| {
            Some(SnapshotStatus::Used {
                used,
                total: 4096,
                metadata: 16,
            })
        };
        assert_eq!(merging(used(2064), Content::Changes), Ok(2048));
        assert_eq!(merging(used(16), Content::Changes), Ok(0));
        let overflow = Some(SnapshotStatus::Overflow);
        assert_eq!(merging(overflow, Content::Changes), Ok(4096));
        assert_eq!(merging(overflow, Content::Nothing), Ok(0));
        for unsure in [None, Some(SnapshotStatus::Unknown)] {
            assert_eq!(merging(unsure, Content::Nothing), Ok(1));
        }
        let failed = Some(SnapshotStatus::MergeFailed);
        assert_eq!(merging(failed, Content::Changes), Err(Stopped::Failed));
        let invalid = Some(SnapshotStatus::Invalid);
        assert_eq!(merging(invalid, Content::Changes), Err(Stopped::Invalid));
    }

    #[test]
    fn a_top_that_is_gone_is_named_with_what_brings_it_back() {
        let text = refusal(&record("00c0ffee", &[]), 0, &Live::Missing, Stopped::Gone).to_string();
        for word in [
            "00c0ffee",
            "ff-x is not there",
            "`freezeframe layer up`, then commit again",
        ] {
            assert!(text.contains(word), "{text}");
        }
    }
}
