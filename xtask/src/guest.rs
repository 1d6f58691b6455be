//! `cargo xtask guest`: one job directory in one guest.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::job::{self, Clock, Job, Outcome};
use crate::kernel::Series;
use crate::module::Variant;
use crate::setup::{self, Need};
use crate::{build, module, paths, step};

/// Runs `JOBDIR/run.sh` as root in a guest and brings its /out back to target/guest/out.
///
/// The exit code is the script's; 123 when the module could not be loaded, 124 when the kernel complained during the job,
/// 125 when the guest died.
#[derive(clap::Args)]
pub struct Args {
    /// The guest's kernel
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
    /// The guest's processors
    #[arg(long, default_value_t = 2, value_name = "N")]
    smp: u32,
    /// The guest's memory [default: 2048; debug kernel: 4096]
    #[arg(long, value_name = "MiB")]
    mem: Option<u32>,
    /// A clock of instructions, for measuring: one processor, slow, repeatable
    #[arg(long)]
    icount: bool,
    /// Let idle processors poll, for measuring: no host has to wake them
    #[arg(long)]
    poll: bool,
    /// Which build of the module to load
    #[arg(long, value_enum, default_value = "release")]
    module: Choice,
    /// The module's parameters, as in "name=value name=value"
    #[arg(long, default_value = "", value_name = "ARGS")]
    module_args: String,
    /// Do not build the controller nor put it on PATH
    #[arg(long)]
    no_user: bool,
    /// When to give up [default: 900; debug kernel: 5400]
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
    /// A file and its path in the guest
    #[arg(long, value_name = "FILE:GUESTPATH", value_parser = parse_extra)]
    extra: Vec<(PathBuf, String)>,
    /// Where /out goes, emptied first [default: target/guest/out]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The directory with run.sh
    #[arg(value_name = "JOBDIR")]
    job: PathBuf,
}

/// Which module a guest gets.
#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    /// As it is shipped
    Release,
    /// With fault injection
    Test,
    /// None
    None,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut job = Job::new(args.job.clone(), args.kernel);
    {
        let _lock = step::lock()?;
        setup::ensure(&[Need::Guest, Need::Kernel(args.kernel)])?;
        let variant = match args.module {
            Choice::Release => Some(Variant::Release),
            Choice::Test => Some(Variant::Test),
            Choice::None => None,
        };
        if let Some(variant) = variant {
            job.module = Some(module::build(args.kernel, variant)?);
        }
        if !args.no_user {
            build::controller()?;
            job.controller = Some(paths::controller());
        }
    }
    job.smp = args.smp;
    job.mem_mib = args.mem.unwrap_or(job.mem_mib);
    job.clock = if args.icount {
        Clock::Instructions
    } else {
        Clock::Real
    };
    job.poll = args.poll;
    job.module_args.clone_from(&args.module_args);
    job.timeout = args.timeout.map_or(job.timeout, Duration::from_secs);
    job.extra.clone_from(&args.extra);
    if let Some(out) = &args.out {
        job.out = std::path::absolute(out)?;
    }
    Ok(ExitCode::from(report(&job, &job.run()?)))
}

/// Says what there is to say about how a job ended, and returns its exit code.
pub fn report(job: &Job, outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Finished(code) => {
            if *code == job::DIRTY {
                eprintln!(
                    "error: the kernel complained during the job; see {}/dmesg.txt",
                    job.out.display()
                );
            }
            *code
        }
        Outcome::Died(reason) => {
            eprintln!(
                "error: the guest died: {reason}; its console is in {}",
                job.console().display()
            );
            job::DIED
        }
    }
}

fn parse_extra(text: &str) -> Result<(PathBuf, String), String> {
    match text.split_once(':') {
        Some((file, path)) if !file.is_empty() && path.starts_with('/') => Ok((file.into(), path.to_owned())),
        _ => Err("expected FILE:GUESTPATH with an absolute path in the guest".to_owned()),
    }
}
