//! `cargo xtask bench`: measurements, each beside what one would use otherwise.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

mod afterwards;
mod agreement;
mod disk;
mod document;
mod drain;
mod frame;
mod goals;
mod json;
mod plot;
mod sample;
mod stats;
mod table;
mod tables;
mod window;

/// Measures in a guest, and prints tables.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// What is measured.
#[derive(Subcommand)]
enum What {
    /// How long processes stand still, and what they pay afterwards: fork(), Redis, criu and each mode side by side
    Window(window::Args),
    /// How long writers to disk stand still, and what they pay afterwards: beside fsfreeze and LVM's snapshots
    Disk(disk::Args),
    /// How fast and how large images are, and what they cost meanwhile: beside dd, zstd, age, gcore and criu
    Drain(drain::Args),
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Window(args) => window::run(args),
        What::Disk(args) => disk::run(args),
        What::Drain(args) => drain::run(args),
    }
}
