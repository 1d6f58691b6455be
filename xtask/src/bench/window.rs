//! `cargo xtask bench window`: one guest run, the samples it left, and the tables made of them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::bench::document::{self, Run};
use crate::bench::frame::{self, Frame};
use crate::bench::sample::Samples;
use crate::job::Clock;
use crate::kernel::Series;
use crate::qemu::{self, Accel};

/// Measures the window beside fork(), Redis' fork and criu, on the same processes in one guest.
///
/// Compare within one run only: a guest without KVM is slow, and slower on a busy machine.
#[derive(clap::Args)]
pub struct Args {
    /// The guest's kernel
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
    /// Samples of each kind [default: 5; 3 with --icount]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// A clock of instructions: one processor, slow, repeatable; without what the targets saw
    #[arg(long)]
    icount: bool,
    /// Write docs/performance.md and docs/window.svg; the last run with the other clock goes into it, too
    #[arg(long)]
    write_docs: bool,
    /// Measure nothing: the tables of the last run again
    #[arg(long)]
    again: bool,
}

const FRAME: Frame = Frame {
    name: "window",
    programs: &["hoard"],
    arguments: "\"$FF_BENCH_ROUNDS\" \"$FF_BENCH_CLOCK\" $(ls \"$PWD/criu.tar\" 2>/dev/null)",
    criu: true,
};

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.again {
        let code = measure(args)?;
        if code != 0 {
            return Ok(ExitCode::from(code));
        }
    }
    let run = load(args.kernel, args.clock())?;
    println!("\n{}\n\n{}", run.summary(), run.tables());
    if args.write_docs {
        let other = load(args.kernel, other(args.clock())).ok();
        document::write(&run, other.as_ref())?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    const fn clock(&self) -> Clock {
        if self.icount {
            Clock::Instructions
        } else {
            Clock::Real
        }
    }
}

/// The clock that it is not.
const fn other(clock: Clock) -> Clock {
    match clock {
        Clock::Real => Clock::Instructions,
        Clock::Instructions => Clock::Real,
    }
}

/// Where a run leaves its results.
fn results(kernel: Series, clock: Clock) -> PathBuf {
    let suffix = match clock {
        Clock::Real => "",
        Clock::Instructions => "-icount",
    };
    FRAME.results(kernel, suffix)
}

/// The last run.
fn load(kernel: Series, clock: Clock) -> Result<Run> {
    let samples = frame::samples(&results(kernel, clock), Samples::parse)?;
    let mut command = format!(
        "cargo xtask bench window --kernel {} --rounds {}",
        kernel.name(),
        samples.rounds()
    );
    let accel = match clock {
        Clock::Real => qemu::accel(&kernel.unpacked()?)?,
        Clock::Instructions => Accel::Icount,
    };
    if clock == Clock::Instructions {
        command += " --icount";
    }
    Ok(Run {
        command,
        accel,
        samples,
    })
}

fn measure(args: &Args) -> Result<u8> {
    let rounds = args.rounds.unwrap_or(if args.icount { 3 } else { 5 });
    let clock = match args.clock() {
        Clock::Real => "real",
        Clock::Instructions => "instructions",
    };
    FRAME.measure(args.kernel, rounds, &results(args.kernel, args.clock()), |job| {
        job.env.push(("FF_BENCH_CLOCK".to_owned(), clock.to_owned()));
        job.clock = args.clock();
        job.poll = args.clock() == Clock::Real;
        // The largest process, a Redis of its size, and the copies that writers force.
        job.mem_mib = 4096;
        job.timeout = Duration::from_secs(if args.icount { 7200 } else { 3600 });
    })
}
