//! Cases that reset their guest in their middle, as a power failure does: what the kernel had not written is lost. The suite is run
//! again when the guest has booted, from its first test on; so each case knows how far it is. Only suites whose name ends in `_reset`
//! may do so.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::sh;

/// Where the cases note how far they are: on the root, which is written out before a reset.
const NOTES: &str = "/ff/reset";

/// How far a case is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has not begun: set up, and [`Case::reset`].
    First,
    /// The guest was reset; with what was noted before that.
    Second(String),
    /// It is over, and was right.
    Over,
}

/// One case.
#[derive(Debug)]
pub struct Case {
    name: String,
}

impl Case {
    /// The case of this name, and how far it is.
    ///
    /// # Panics
    ///
    /// When it failed before the last reset, for which this boot's tests must fail too.
    #[must_use]
    pub fn at(name: &str) -> (Self, Step) {
        let case = Self {
            name: name.to_owned(),
        };
        let there = |state: &str| case.note(state).exists();
        let step = match (there("begun"), there("noted"), there("tried")) {
            _ if there("right") => Step::Over,
            (false, _, _) => {
                case.write("begun", "");
                Step::First
            }
            (true, true, false) => {
                case.write("tried", "");
                Step::Second(fs::read_to_string(case.note("noted")).expect("it is there"))
            }
            _ => panic!("{name} failed before the guest was reset; the console says how"),
        };
        (case, step)
    }

    /// Notes something, and resets the guest.
    ///
    /// # Panics
    ///
    /// When the guest goes on all the same.
    pub fn reset(&self, note: &str) -> ! {
        self.write("noted", note);
        let boot = std::env::var("FF_BOOT").expect("the guest counts its boots");
        // The root alone: others may be frozen.
        sh(&format!(
            "dmesg >/out/dmesg.{boot}.txt; touch /ff/again; sync -f /ff/again"
        ));
        fs::write("/proc/sysrq-trigger", "b").expect("we are root");
        std::thread::sleep(Duration::from_secs(60));
        panic!("the guest was not reset");
    }

    /// It is over, and was right.
    pub fn right(self) {
        self.write("right", "");
    }

    fn note(&self, state: &str) -> PathBuf {
        format!("{NOTES}/{}.{state}", self.name).into()
    }

    fn write(&self, state: &str, text: &str) {
        fs::create_dir_all(NOTES).expect("it can be made");
        fs::write(self.note(state), text).expect("it can be written");
    }
}
