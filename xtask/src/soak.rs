//! `cargo xtask soak`: the guest suites, told to take their time, and the fuzz targets with them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::kernel::Series;
use crate::suite::{self, Extent, Settings, Tally};
use crate::{fuzz, test};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u64 = 1800;

/// The guest suites with FF_SOAK=1: the same tests, for much longer, behind the fuzz targets.
#[derive(clap::Args)]
pub struct Args {
    /// One kernel only [default: every supported one]
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// Only the suites whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// How many guests run at once: each has two processors, but seldom uses more than one
    #[arg(long, value_name = "N", default_value_t = suite::usual_jobs())]
    jobs: usize,
    /// When one suite has taken too long; on the debug kernel, six times that
    #[arg(long, default_value_t = 6 * 3600, value_name = "SECS")]
    timeout: u64,
    /// Arguments for libtest in the guest, as in `-- some_test`
    #[arg(last = true, value_name = "ARGS")]
    libtest: Vec<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let settings = Settings {
        env: vec![("FF_SOAK".to_owned(), "1".to_owned())],
        libtest: args.libtest.clone(),
        extent: Extent::Long,
        jobs: args.jobs,
        timeout: Duration::from_secs(args.timeout),
    };
    let mut tally = Tally::default();
    if args.only.is_none() {
        let started = Instant::now();
        tally.count("fuzz", fuzz::every(FUZZ_SECONDS), started);
    }
    test::guests(args.kernel, args.only.as_deref(), &settings, &mut tally)?;
    Ok(if tally.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
