//! `cargo xtask fuzz`: the readers of archives and images against inputs that nobody thought of.

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{cargo_tool, paths, run, step};

/// Runs each fuzz target for a while; what it finds is in `fuzz/artifacts`, and what it learned in `fuzz/corpus`.
#[derive(clap::Args)]
pub struct Args {
    /// How long each target runs
    #[arg(long, value_name = "SECS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// One target only [default: all]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// The cargo-fuzz that is used.
const VERSION: &str = "0.13.1";

/// What there is in `fuzz/fuzz_targets`.
const TARGETS: [&str; 3] = ["archive", "core_head", "image"];

/// The longest input that is tried, in bytes: as long as the longest seed, and some more.
const LONGEST: u32 = 64 << 10;
/// A reader that takes longer over so little, or more memory, has a fault.
const LIMITS: [&str; 2] = ["-timeout=20", "-rss_limit_mb=2048"];

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let targets = match &args.target {
        None => TARGETS.to_vec(),
        Some(name) => match TARGETS.iter().find(|target| *target == name) {
            Some(target) => vec![*target],
            None => bail!(
                "there is no fuzz target `{name}`; there are: {}",
                TARGETS.join(", ")
            ),
        },
    };
    all(&targets, args.seconds)?;
    Ok(ExitCode::SUCCESS)
}

/// Every target, for so many seconds each.
pub fn every(seconds: u64) -> Result<()> {
    all(&TARGETS, seconds)
}

fn all(targets: &[&str], seconds: u64) -> Result<()> {
    {
        let _lock = step::lock()?;
        cargo_tool::ensure("cargo-fuzz", VERSION, &[])?;
        // All that the targets share is built once.
        let only = if let [target] = targets {
            Some(*target)
        } else {
            None
        };
        step::timed("fuzz targets", || {
            run::logged("fuzz-build", &mut cargo_fuzz("build", only))
        })?;
    }
    for target in targets {
        fuzz(target, seconds)?;
    }
    Ok(())
}

fn fuzz(target: &str, seconds: u64) -> Result<()> {
    let fuzz = paths::root().join("fuzz");
    let corpus = fuzz.join("corpus").join(target);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let mut command = cargo_fuzz("run", Some(target));
    command
        .arg(&corpus) // takes what is new
        .arg(fuzz.join("seeds").join(target))
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST}"))
        .args(LIMITS);
    let started = Instant::now();
    let name = format!("fuzz-{target}");
    run::logged(&name, &mut command)
        .with_context(|| format!("the target `{target}` fails; its input is in fuzz/artifacts/{target}"))?;
    let log = paths::logs().join(format!("{name}.log"));
    let text = std::fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let done = text.lines().rev().find(|line| line.starts_with("Done "));
    eprintln!(
        "  {name}: {:.1} s, {}",
        started.elapsed().as_secs_f64(),
        done.unwrap_or("done")
    );
    Ok(())
}

/// `cargo fuzz` with a compiler that takes the flags of instrumentation: rustup's nightly, or the stable one that is told to.
fn cargo_fuzz(verb: &str, target: Option<&str>) -> Command {
    let nightly = run::output(Command::new("cargo").args(["+nightly", "--version"])).is_ok();
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // What the cargo that runs us has set is not for the one that we run.
        let cargos = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST");
        if cargos || matches!(&*text, "CARGO" | "RUSTC" | "RUSTFLAGS" | "RUSTUP_TOOLCHAIN") {
            cargo.env_remove(&name);
        }
    }
    if nightly {
        cargo.arg("+nightly");
    } else {
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    let mut path = OsString::from(paths::tools().join("bin"));
    if let Some(others) = std::env::var_os("PATH") {
        path.push(":");
        path.push(others);
    }
    cargo
        .env("PATH", path)
        .current_dir(paths::root())
        .args(["fuzz", verb, "--fuzz-dir", "fuzz", "--target-dir"])
        .arg(paths::cache().join("fuzz"))
        .args(target);
    cargo
}
