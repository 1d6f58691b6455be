//! What `dmsetup status` prints of a snapshot.

/// What a `snapshot` or `snapshot-merge` target reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// All is well. In sectors.
    Used {
        /// What the store's slice holds, its own metadata included.
        used: u64,
        /// The slice's size.
        total: u64,
        /// How much of what it holds is metadata.
        metadata: u64,
    },
    /// The slice is full: writers get errors, the origin and what was written before are whole.
    Overflow,
    /// The store has failed: what was written is lost, the origin is whole.
    Invalid,
    /// The merge has stopped at an error of the disk.
    MergeFailed,
    /// The kernel has not read the store yet.
    Unknown,
}

impl SnapshotStatus {
    pub(super) fn parse(params: &str) -> Self {
        let numbers = || {
            let (used, rest) = params.split_once('/')?;
            let (total, metadata) = rest.split_once(' ')?;
            Some(Self::Used {
                used: used.parse().ok()?,
                total: total.parse().ok()?,
                metadata: metadata.trim().parse().ok()?,
            })
        };
        match params.trim() {
            "Overflow" => Self::Overflow,
            "Invalid" => Self::Invalid,
            "Merge failed" => Self::MergeFailed,
            _ => numbers().unwrap_or(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SnapshotStatus;

    #[test]
    fn a_status_is_figures_or_a_word() {
        assert_eq!(
            SnapshotStatus::parse("2064/411648 16"),
            SnapshotStatus::Used {
                used: 2064,
                total: 411_648,
                metadata: 16
            }
        );
        assert_eq!(SnapshotStatus::parse("Overflow"), SnapshotStatus::Overflow);
        assert_eq!(SnapshotStatus::parse("Invalid"), SnapshotStatus::Invalid);
        assert_eq!(SnapshotStatus::parse("Merge failed"), SnapshotStatus::MergeFailed);
        assert_eq!(SnapshotStatus::parse("Unknown"), SnapshotStatus::Unknown);
    }
}
