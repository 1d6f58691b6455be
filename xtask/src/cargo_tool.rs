//! Programs of others that cargo builds, because Debian does not have them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

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
        install(name, &mut cargo)
    })?;
    Ok(program)
}

/// Runs a `cargo install` of `name`, and leaves nothing of the build but the program: it takes a gigabyte.
pub fn install(name: &str, cargo: &mut Command) -> Result<()> {
    let build = paths::cache().join(name);
    cargo.arg("--root").arg(paths::tools());
    cargo.arg("--target-dir").arg(&build);
    run::logged(name, cargo)?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}
