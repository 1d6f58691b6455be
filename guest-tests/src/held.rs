//! A take that is held somewhere: most often where the targets run again and nothing is finalized yet but by them.

use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use snap_common::abi;
use snap_common::phase::Phase;

use crate::device::{Device, Failed, How, Snapshot};
use crate::knob::Knob;

/// `FF_TEST_REHEARSAL` of `kmod/test.h`.
const REHEARSAL: i32 = abi::PHASE_COUNT.cast_signed();

/// At the start of a phase. When it goes out of scope, the take goes on.
pub struct Held {
    take: JoinHandle<Result<Snapshot, Failed>>,
    hold: Vec<Knob>,
}

impl Held {
    /// Takes a snapshot in a thread; returns between the window and the module's own pass.
    ///
    /// # Panics
    ///
    /// When the take fails.
    #[must_use]
    pub fn begin(pid: i32, how: How) -> Self {
        Self::begin_all(&[pid], how)
    }

    /// Takes a snapshot of several processes in a thread; returns between the window and the module's own pass.
    ///
    /// # Panics
    ///
    /// When the take fails.
    #[must_use]
    pub fn begin_all(pids: &[i32], how: How) -> Self {
        Self::begin_at(Phase::Finalize, pids, how)
    }

    /// Takes a snapshot in a thread; returns when it is held at the start of a phase.
    ///
    /// # Panics
    ///
    /// When the take fails.
    #[must_use]
    pub fn begin_at(phase: Phase, pids: &[i32], how: How) -> Self {
        Self::begin_where(phase as i32, pids, how)
    }

    /// Takes a snapshot in a thread; returns when it is held in the rehearsal of the stop, where the module has hold of all files.
    ///
    /// # Panics
    ///
    /// When the take fails.
    #[must_use]
    pub fn begin_in_rehearsal(pid: i32, how: How) -> Self {
        Self::begin_where(REHEARSAL, &[pid], how)
    }

    fn begin_where(place: i32, pids: &[i32], how: How) -> Self {
        // Until it is told to go on, but not for good. On a debug kernel, what is done meanwhile may take more than a minute.
        let ms = Knob::set("test_hold_ms", 300_000);
        let hold = Knob::set("test_hold_phase", place);
        let pids = pids.to_vec();
        let take = std::thread::spawn(move || Device::open().take_how(&pids, how));
        let held = Self {
            take,
            hold: vec![hold, ms],
        };
        held.wait_for(place);
        held
    }

    fn wait_for(&self, place: i32) {
        let begin = Instant::now();
        while Knob::get("test_held") != place {
            assert!(!self.take.is_finished(), "the take is not held");
            assert!(begin.elapsed() < Duration::from_secs(60), "the take hangs");
            sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on to the start of another phase.
    ///
    /// # Panics
    ///
    /// When the take fails before.
    pub fn go_on_to(&mut self, phase: Phase) {
        // Each is set back to what was before it: the last goes first.
        self.hold.insert(0, Knob::set("test_hold_phase", phase as i32));
        self.wait_for(phase as i32);
    }

    /// Lets it go on, and returns the snapshot.
    ///
    /// # Panics
    ///
    /// When the take fails.
    #[must_use]
    pub fn release(self) -> Snapshot {
        self.let_go().unwrap_or_else(|failed| panic!("{failed:?}"))
    }

    /// Lets it go on, and returns what comes of it.
    ///
    /// # Errors
    ///
    /// As the module has it.
    ///
    /// # Panics
    ///
    /// When the thread does.
    pub fn let_go(self) -> Result<Snapshot, Failed> {
        drop(self.hold);
        self.take.join().expect("the thread returns")
    }
}
