//! The module's fault injection (`kmod/test.h`), set back when it goes out of scope.

use std::fs;

/// `test_no_hook`: not that of page faults.
pub const NO_FAULTS: i32 = 1;
/// Not the mmu notifier.
pub const NO_NOTICES: i32 = 2;
/// Not those of GUP.
pub const NO_GUP: i32 = 4;
/// Not those of what makes entries writable.
pub const NO_MAPPING: i32 = 8;
/// Not those of what changes files.
pub const NO_FILE: i32 = 16;

/// A module parameter that is set for a while.
pub struct Knob {
    path: String,
    before: String,
}

impl Knob {
    fn path(name: &str) -> String {
        format!("/sys/module/freezeframe/parameters/{name}")
    }

    /// What a parameter is now.
    ///
    /// # Panics
    ///
    /// When the module is not the test variant.
    #[must_use]
    pub fn get(name: &str) -> i32 {
        let value = fs::read_to_string(Self::path(name)).expect("the test variant of the module is loaded");
        value.trim().parse().expect("a number")
    }

    /// Sets a parameter.
    ///
    /// # Panics
    ///
    /// When the module is not the test variant.
    #[must_use]
    pub fn set(name: &str, value: i32) -> Self {
        let path = Self::path(name);
        let before = fs::read_to_string(&path).expect("the test variant of the module is loaded");
        fs::write(&path, value.to_string()).expect("the parameter takes it");
        Self {
            path,
            before: before.trim().to_owned(),
        }
    }
}

impl Drop for Knob {
    fn drop(&mut self) {
        fs::write(&self.path, &self.before).expect("the parameter takes it back");
    }
}
