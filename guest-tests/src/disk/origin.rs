//! The frozen origin of a snapshot, mounted.

use std::fs::File;
use std::process::Output;

use super::MOUNTS;
use super::snapshot::done;
use crate::controller::freezeframe;
use crate::sh;

/// Mounted by `freezeframe origin`; unmounted by it when it goes out of scope.
pub struct Origin {
    id: String,
    /// Where.
    pub dir: String,
}

impl Origin {
    /// Mounts it.
    ///
    /// # Errors
    ///
    /// What `freezeframe` left.
    pub fn mount(id: &str, more: &[&str]) -> Result<Self, Output> {
        let dir = format!("{MOUNTS}/origin-{id}");
        sh(&format!("mkdir -p {dir}"));
        let mut arguments = vec!["origin", id, "--mount", &dir];
        arguments.extend(more);
        let output = freezeframe(&arguments);
        if !output.status.success() {
            return Err(output);
        }
        Ok(Self {
            id: id.to_owned(),
            dir,
        })
    }

    /// Opens a file of it.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn open(&self, name: &str) -> File {
        let path = format!("{}/{name}", self.dir);
        File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Unmounts it.
    pub fn unmount(self) {
        done(&["origin", &self.id, "--unmount", &self.dir]);
        std::mem::forget(self);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let output = freezeframe(&["origin", &self.id, "--unmount", &self.dir]);
        if !output.status.success() {
            eprintln!("cannot unmount {}: {output:?}", self.dir);
        }
    }
}
