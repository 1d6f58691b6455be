//! `cargo xtask demo`: a real Redis under write load, snapshotted, with Prometheus watching.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::guest;
use crate::job::Job;
use crate::kernel::Series;
use crate::module::{self, Variant};
use crate::setup::{self, Need};
use crate::{build, paths, step};

/// Snapshots a real Redis under write load in a guest, and shows what came of it.
#[derive(clap::Args)]
pub struct Args {
    /// The guest's kernel
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut job = Job::new(paths::root().join("demo"), args.kernel);
    {
        let _lock = step::lock()?;
        setup::ensure(&[Need::Guest, Need::Kernel(args.kernel), Need::Bpf])?;
        build::controller()?;
        job.controller = Some(paths::controller());
        job.module = Some(module::build(args.kernel, Variant::Release)?);
    }
    job.mem_mib = job.mem_mib.max(3072);
    job.timeout = Duration::from_secs(600) * args.kernel.slowness();
    job.out = paths::guest().join(format!("demo-{}", args.kernel.name()));
    let code = guest::report(&job, &job.run()?);
    if code == 0 {
        println!(
            "the image: {}",
            paths::from_here(&job.out.join("redis.tar")).display()
        );
    }
    Ok(ExitCode::from(code))
}
