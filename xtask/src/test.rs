//! `cargo xtask test`: the host's tests, then the suites on every supported kernel.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::kernel::Series;
use crate::setup::{self, Need};
use crate::suite::{self, Extent, Settings, Tally};
use crate::{build, garage, run, step};

/// Runs the tests; the last line counts the suites that passed and failed.
#[derive(clap::Args)]
pub struct Args {
    /// One kernel only [default: every supported one]
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// Only the suites whose name contains this, and not the host's
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// How many guests run at once: each has two processors, but seldom uses more than one
    #[arg(long, value_name = "N", default_value_t = suite::usual_jobs())]
    jobs: usize,
    /// Only the tests that need no guest
    #[arg(long, conflicts_with_all = ["kernel", "only"])]
    host_only: bool,
    /// Arguments for libtest in the guest, as in `-- some_test --nocapture`
    #[arg(last = true, value_name = "ARGS")]
    libtest: Vec<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let settings = Settings {
        env: Vec::new(),
        libtest: args.libtest.clone(),
        extent: Extent::Usual,
        jobs: args.jobs,
        timeout: Duration::from_secs(1200),
    };
    let mut tally = Tally::default();
    if args.only.is_none() {
        let started = Instant::now();
        tally.count("host", host(), started);
    }
    if !args.host_only {
        guests(args.kernel, args.only.as_deref(), &settings, &mut tally)?;
    }
    Ok(if tally.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The tests of the default members, and of the library that the suites share.
fn host() -> Result<()> {
    let garage = {
        let _lock = step::lock()?;
        setup::ensure(&[Need::Bpf, Need::Formats])?;
        build::bpf()?;
        garage::ensure()?
    };
    run::shown(build::cargo().arg("test").env("FREEZEFRAME_GARAGE", garage))?;
    run::shown(build::cargo().args(["test", "--package", "guest-tests", "--lib"]))
}

/// The suites in guests, on `kernel` or on every supported one.
pub fn guests(
    kernel: Option<Series>,
    only: Option<&str>,
    settings: &Settings,
    tally: &mut Tally,
) -> Result<()> {
    let lock = step::lock()?;
    let mut needs = vec![Need::Guest, Need::Bpf];
    needs.extend(kernel.map(Need::Kernel));
    setup::ensure(&needs)?;
    build::controller()?;
    let mut suites = suite::all()?;
    if only.is_none() && settings.extent == Extent::Usual {
        suite::leave_long(&mut suites);
    }
    if let Some(only) = only {
        suites.retain(|suite| suite.name.contains(only));
        if suites.is_empty() {
            bail!("no suite's name contains `{only}`");
        }
    }
    suite::equip(&suites)?;
    drop(lock);
    let kernels = kernel.map_or_else(|| Series::ALL.to_vec(), |series| vec![series]);
    suite::run(&suites, &kernels, settings, tally)
}
