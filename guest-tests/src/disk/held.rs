//! A take with a disk's half that is held at the start of a phase.

use std::process::{Child, Output};

use snap_common::phase::Phase;

use super::dm::wait_until;
use super::snapshot::What;
use crate::device::Device;
use crate::knob::Knob;

/// The phases in which something of the disk's half is in the making.
pub const PHASES: [Phase; 7] = [
    Phase::FreezeFs,
    Phase::FreezeTasks,
    Phase::Arm,
    Phase::ThawTasks,
    Phase::SwitchFs,
    Phase::ThawFs,
    Phase::Finalize,
];

/// `freezeframe take`, held. When it goes out of scope, the take goes on and is waited for.
pub struct HeldTake {
    child: Option<Child>,
    hold: Option<(Knob, Knob)>,
}

impl HeldTake {
    /// Takes a snapshot; returns when it is held at the start of a phase.
    ///
    /// # Panics
    ///
    /// When it does not come that far.
    #[must_use]
    pub fn at(phase: Phase, what: &What<'_>) -> Self {
        let ms = Knob::set("test_hold_ms", 300_000);
        let hold = Knob::set("test_hold_phase", phase as i32);
        let mut held = Self {
            child: Some(what.begin()),
            hold: Some((hold, ms)),
        };
        wait_until(phase.name(), || {
            if let Some(child) = &mut held.child
                && child.try_wait().expect("it is ours").is_some()
            {
                let output = held.child.take().map(Child::wait_with_output);
                panic!("it is not held at {}: {output:?}", phase.name());
            }
            Knob::get("test_held") == phase as i32
        });
        held
    }

    /// Lets it go on.
    pub fn goes_on(&mut self) {
        self.hold = None;
    }

    /// Lets it go on, and returns what came of it.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    #[must_use]
    pub fn let_go(mut self) -> Output {
        self.hold = None;
        let child = self.child.take().expect("it is there until now");
        child.wait_with_output().expect("it is ours")
    }

    /// Kills it by SIGKILL, and lets what it began go on.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn kill(mut self) {
        let mut child = self.child.take().expect("it is there until now");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        self.hold = None;
        let device = Device::open();
        wait_until("the end of the snapshot", || device.open_snapshots() == 0);
    }
}

impl Drop for HeldTake {
    fn drop(&mut self) {
        self.hold = None;
        if let Some(mut child) = self.child.take() {
            // A test that fails has more to say than this.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
