//! `cargo xtask bench window`: one guest run, the samples it left, and the tables made of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bench::document::{self, Run};
use crate::bench::sample::Samples;
use crate::guest;
use crate::job::{Clock, Job};
use crate::kernel::Series;
use crate::module::{self, Variant};
use crate::qemu::{self, Accel};
use crate::setup::{self, Need};
use crate::{build, criu, paths, step, suite};

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

/// What the guest leaves.
const SAMPLES: &str = "samples.jsonl";

const RUN: &str = "#!/bin/sh\nexport PATH=\"$PWD/bin:$PATH\"\n\
                   exec bench_window \"$FF_BENCH_ROUNDS\" \"$FF_BENCH_CLOCK\" $(ls \"$PWD/criu.tar\" 2>/dev/null)\n";

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
    paths::guest().join(format!("bench-window-{}{suffix}", kernel.name()))
}

/// The last run.
fn load(kernel: Series, clock: Clock) -> Result<Run> {
    let path = results(kernel, clock).join(SAMPLES);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; run without --again", path.display()))?;
    let samples = Samples::parse(&text).with_context(|| format!("cannot use {}", path.display()))?;
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
    let dir = paths::guest().join("bench-window");
    let mut job = Job::new(dir.clone(), args.kernel);
    {
        let _lock = step::lock()?;
        setup::ensure(&[Need::Guest, Need::Bpf, Need::Criu])?;
        build::controller()?;
        job.controller = Some(paths::controller());
        job.module = Some(module::build(args.kernel, Variant::Release)?);
        pack(&dir)?;
    }
    let rounds = args.rounds.unwrap_or(if args.icount { 3 } else { 5 });
    if rounds == 0 {
        bail!("--rounds 0 measures nothing");
    }
    let clock = match args.clock() {
        Clock::Real => "real",
        Clock::Instructions => "instructions",
    };
    job.env.push(("FF_BENCH_ROUNDS".to_owned(), rounds.to_string()));
    job.env.push(("FF_BENCH_CLOCK".to_owned(), clock.to_owned()));
    job.clock = args.clock();
    job.poll = args.clock() == Clock::Real;
    // The largest process, a Redis of its size, and the copies that writers force.
    job.mem_mib = 4096;
    job.timeout = Duration::from_secs(if args.icount { 7200 } else { 3600 });
    job.out = results(args.kernel, args.clock());
    Ok(guest::report(&job, &job.run()?))
}

/// Makes the job's directory.
fn pack(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir.join("bin"))?;
    for (name, executable) in suite::programs()? {
        if ["hoard", "bench_window"].contains(&name.as_str()) {
            copy(&executable, dir.join("bin").join(name))?;
        }
    }
    if criu::path().exists() {
        copy(&criu::path(), dir.join("criu.tar"))?;
    }
    Ok(fs::write(dir.join("run.sh"), RUN)?)
}

pub(super) fn copy(from: &Path, to: PathBuf) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
