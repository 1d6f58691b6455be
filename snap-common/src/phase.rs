//! The timed steps of a snapshot.

/// One timed step of a snapshot, in the order in which they begin. Mirrors `enum ff_phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Phase {
    /// Resolve the targets, count, allocate, pre-fault. Nobody stands still.
    Prepare = 0,
    /// Freeze the filesystems.
    FreezeFs = 1,
    /// Park every target thread; the window begins.
    FreezeTasks = 2,
    /// Make the memory copy-on-write and copy the registers.
    Arm = 3,
    /// Let the threads go; the window ends.
    ThawTasks = 4,
    /// Slide the dm-snapshots under the filesystems.
    SwitchFs = 5,
    /// Thaw the filesystems.
    ThawFs = 6,
    /// Resolve paths and lay out the image. Nobody stands still.
    Finalize = 7,
    /// The snapshot fd is open and read from.
    Drain = 8,
    /// Release every reference.
    Done = 9,
}

impl Phase {
    /// How many phases there are.
    pub const COUNT: usize = 10;

    /// Every phase, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Prepare,
        Self::FreezeFs,
        Self::FreezeTasks,
        Self::Arm,
        Self::ThawTasks,
        Self::SwitchFs,
        Self::ThawFs,
        Self::Finalize,
        Self::Drain,
        Self::Done,
    ];

    /// The phase with this number in the kernel's ABI.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if (raw as usize) < Self::COUNT {
            Some(Self::ALL[raw as usize])
        } else {
            None
        }
    }

    /// The name in tables, JSON, and the `phase` label of the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::FreezeFs => "freeze_fs",
            Self::FreezeTasks => "freeze_tasks",
            Self::Arm => "arm",
            Self::ThawTasks => "thaw_tasks",
            Self::SwitchFs => "switch_fs",
            Self::ThawFs => "thaw_fs",
            Self::Finalize => "finalize",
            Self::Drain => "drain",
            Self::Done => "done",
        }
    }

    /// Do the targets stand still in this phase?
    #[must_use]
    pub const fn in_window(self) -> bool {
        matches!(self, Self::FreezeTasks | Self::Arm | Self::ThawTasks)
    }
}

#[cfg(test)]
mod tests {
    use super::Phase;

    #[test]
    fn raw_numbers_round_trip() {
        for (number, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, number);
            assert_eq!(Phase::from_raw(phase as u32), Some(phase));
        }
        assert_eq!(Phase::from_raw(10), None);
        assert_eq!(Phase::from_raw(u32::MAX), None);
    }

    #[test]
    fn names_are_unique_prometheus_label_values() {
        for (number, phase) in Phase::ALL.into_iter().enumerate() {
            assert!(
                phase
                    .name()
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            );
            assert!(
                Phase::ALL[..number]
                    .iter()
                    .all(|other| other.name() != phase.name())
            );
        }
    }

    #[test]
    fn the_window_is_contiguous() {
        let inside: Vec<_> = Phase::ALL.into_iter().filter(|phase| phase.in_window()).collect();
        assert_eq!(inside, [Phase::FreezeTasks, Phase::Arm, Phase::ThawTasks]);
    }
}
