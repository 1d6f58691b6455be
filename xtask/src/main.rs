//! `cargo xtask`: everything that sets up, builds, boots and tests Freezeframe.
//!
//! One file per verb; one module per thing that more than one verb needs. What is fetched or built lands
//! under `target/`, and a step whose inputs did not change is not run again.

mod apt;
mod bench;
mod build;
mod cargo_tool;
mod criu;
mod debug_kernel;
mod demo;
mod emulator;
mod fuzz;
mod garage;
mod guest;
mod host;
mod image;
mod initramfs;
mod job;
mod kernel;
mod lint;
mod module;
mod paths;
mod qemu;
mod run;
mod setup;
mod soak;
mod step;
mod suite;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// The verbs; every one gets what it needs by itself.
#[derive(Subcommand)]
enum Verb {
    /// Get everything the other verbs need (they do it themselves where it is missing)
    Setup(setup::Args),
    /// Build the BPF object, the controller and the kernel modules
    Build(build::Args),
    /// Run a job directory as root in a guest
    Guest(guest::Args),
    /// Run the tests: on the host, then in guests with every supported kernel
    Test(test::Args),
    /// Snapshot a real Redis under load, with Prometheus watching
    Demo(demo::Args),
    /// Measure, beside fork() and others
    Bench(bench::Args),
    /// The guest suites for longer
    Soak(soak::Args),
    /// The readers of archives against inputs that nobody thought of
    Fuzz(fuzz::Args),
    /// Every check that needs no run: formatting, clippy, shellcheck, cargo-deny and others
    Lint(lint::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Guest(args) => guest::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Lint(args) => lint::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
