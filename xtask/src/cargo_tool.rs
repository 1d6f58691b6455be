//! Programs of others that cargo builds, because Debian does not have them.

use std::path::PathBuf;

use anyhow::Result;

use crate::{build, paths, run, step};

/// Builds `name` at that version, once, and returns where it is. `features` are arguments for cargo.
pub fn ensure(name: &str, version: &str, features: &[&str]) -> Result<PathBuf> {
    let program = paths::tools().join("bin").join(name);
    step::cached(name, step::key((version, features)), &program, || {
        let mut cargo = build::cargo();
        cargo.args([
            "install",
            name,
            "--locked",
            "--force",
            // They run for a second, and take minutes to optimize.
            "--debug",
            "--version",
            version,
        ]);
        cargo.args(features);
        // Half of what it takes on disk, and some of the time.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo.arg("--root").arg(paths::tools());
        cargo.arg("--target-dir").arg(paths::cache().join(name));
        run::logged(name, &mut cargo)
    })?;
    Ok(program)
}
