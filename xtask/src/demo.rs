//! `cargo xtask demo`.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Not there yet.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_: &Args) -> Result<ExitCode> {
    bail!("`cargo xtask demo` is not written yet")
}
