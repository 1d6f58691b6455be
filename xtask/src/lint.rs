//! `cargo xtask lint`.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Not there yet.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_: &Args) -> Result<ExitCode> {
    bail!("`cargo xtask lint` is not written yet")
}
