//! `cargo xtask soak`.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Not there yet.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_: &Args) -> Result<ExitCode> {
    bail!("`cargo xtask soak` is not written yet")
}
