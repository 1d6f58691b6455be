//! A take that is held somewhere: most often where the targets run again and nothing is finalized yet but by them.

use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use snap_common::phase::Phase;

use crate::device::{Device, Failed, How, Snapshot};
use crate::knob::Knob;

/// At the start of a phase. When it goes out of scope, the take goes on.
pub struct Held {
    take: JoinHandle<Result<Snapshot, Failed>>,
    hold: (Knob, Knob),
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
        // Until it is told to go on, but not for good. On a debug kernel, what is done meanwhile may take more than a minute.
        let ms = Knob::set("test_hold_ms", 300_000);
        let hold = Knob::set("test_hold_phase", phase as i32);
        let pids = pids.to_vec();
        let take = std::thread::spawn(move || Device::open().take_how(&pids, how));
        let begin = Instant::now();
        while Knob::get("test_held") != phase as i32 {
            if take.is_finished() {
                panic!("the take is not held: {:?}", take.join().map(drop));
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the take hangs");
            sleep(Duration::from_millis(1));
        }
        Self {
            take,
            hold: (hold, ms),
        }
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
