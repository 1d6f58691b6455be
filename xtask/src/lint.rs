//! `cargo xtask lint`: every check that needs no run.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::setup::{self, Need};
use crate::{build, cargo_tool, paths, run, step};

/// Formatting, clippy, clang-format, shellcheck, cargo-deny, and the dashboard against Grafana's types.
#[derive(clap::Args)]
pub struct Args {}

/// The cargo-deny that `deny.toml` is written for.
const DENY_VERSION: &str = "0.20.2";

/// A check that fails the verb.
type Check = fn() -> Result<()>;

/// Runs the verb: every check, then the verdict.
pub fn run(_: &Args) -> Result<ExitCode> {
    {
        let _lock = step::lock()?;
        setup::ensure(&[Need::Bpf, Need::Lint])?;
        build::bpf()?;
        cargo_tool::ensure("cargo-deny", DENY_VERSION, &[])?;
    }
    let checks: [(&str, Check); 6] = [
        ("rustfmt", rustfmt),
        ("clippy", clippy),
        ("clang-format", clang_format),
        ("shellcheck", shellcheck),
        ("cargo-deny", cargo_deny),
        ("dashboard", dashboard),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = step::timed(name, check) {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("lint failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn rustfmt() -> Result<()> {
    run::shown(build::cargo().args(["fmt", "--all", "--check"]))
        .and_then(|()| {
            run::shown(build::cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
        })
        .context("`cargo fmt --all` puts it right; where cargo knows no fmt: rustup component add rustfmt")
}

fn clippy() -> Result<()> {
    let clippy = |packages: &[&str]| {
        run::shown(build::cargo().arg("clippy").args(packages).args([
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
        .context("where cargo knows no clippy: rustup component add clippy")
    };
    clippy(&[])?;
    clippy(&["--package", "guest-tests"])
}

fn clang_format() -> Result<()> {
    let files = files(|name| name.starts_with("kmod/") && (name.ends_with(".c") || name.ends_with(".h")))?;
    run::shown(
        Command::new("clang-format")
            .args(["--dry-run", "-Werror"])
            .args(files),
    )
}

fn shellcheck() -> Result<()> {
    let packaged = ["packaging/initramfs-tools/", "packaging/systemd-shutdown/"];
    let files = files(|name| {
        name.ends_with(".sh") || name == ".ci/run" || packaged.iter().any(|folder| name.starts_with(folder))
    })?;
    run::shown(Command::new("shellcheck").args(files))
}

/// Licences, sources and bans. Advisories are a matter of the day and not of the commit, and need GitHub:
/// `cargo deny check advisories`.
fn cargo_deny() -> Result<()> {
    let deny = paths::tools().join("bin/cargo-deny");
    let checks = ["--log-level", "error", "check", "bans", "licenses", "sources"];
    run::shown(Command::new(deny).current_dir(paths::root()).args(checks))
}

fn dashboard() -> Result<()> {
    run::shown(&mut Command::new(paths::root().join("dashboards/check.sh")))
}

/// The repository's files, tracked or new, whose name `wanted` takes.
fn files(wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let root = paths::root();
    // A checkout of another user's is as good as ours: git only reads it.
    let ours = format!("safe.directory={}", root.display());
    let listing = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let text = run::output(
        Command::new("git")
            .arg("-C")
            .arg(&root)
            .arg("-c")
            .arg(ours)
            .args(listing),
    )?;
    Ok(text
        .lines()
        .filter(|name| wanted(name))
        .map(|name| root.join(name))
        .filter(|path| path.exists())
        .collect())
}
