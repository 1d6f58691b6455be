//! `cargo xtask build`: the BPF object, the controller that embeds it, the modules.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::kernel::Series;
use crate::module::Variant;
use crate::setup::{self, Need};
use crate::{module, paths, run, step, toolchain};

/// Builds the BPF object, the controller and the modules for every supported kernel.
#[derive(clap::Args)]
pub struct Args {}

/// Tells the controller's build script where the object is that it embeds.
pub const OBJECT_ENV: &str = "FREEZEFRAME_BPF_OBJECT";

/// The profile's directory of the BPF crate's binary.
const BPF_BIN: &str = "freezeframe-bpf";

/// Runs the verb.
pub fn run(_: &Args) -> Result<ExitCode> {
    let _lock = step::lock()?;
    setup::ensure(&[Need::Guest, Need::Bpf])?;
    controller()?;
    for series in Series::ALL {
        for variant in Variant::ALL {
            module::build(series, variant)?;
        }
    }
    println!("{}", paths::controller().display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the BPF object where its sources changed.
pub fn bpf() -> Result<()> {
    setup::ensure(&[Need::Bpf])?;
    let root = paths::root();
    let toolchain = toolchain::choose()?;
    let sources: Vec<_> = [
        "snap-ebpf/src",
        "snap-ebpf/Cargo.toml",
        "snap-common/src",
        "snap-common/Cargo.toml",
    ]
    .map(|path| root.join(path))
    .into();
    let key = step::key((step::tree_key(&sources)?, toolchain.version()?));
    step::cached("BPF object", key, &paths::bpf_object(), || {
        let target = paths::target().join("bpf");
        let mut cargo = toolchain.build();
        cargo
            .args(["--package", "snap-ebpf", "--bin", BPF_BIN, "--target-dir"])
            .arg(&target);
        run::shown(cargo.current_dir(&root).stdout(std::io::stderr()))?;
        let built = target.join(toolchain::TARGET).join("release").join(BPF_BIN);
        fs::copy(&built, paths::bpf_object()).with_context(|| format!("cannot copy {}", built.display()))?;
        Ok(())
    })
}

/// Builds the controller with the BPF object in it.
pub fn controller() -> Result<()> {
    bpf()?;
    let mut cargo = cargo();
    cargo.args([
        "build",
        "--release",
        "--package",
        "freezeframe",
        "--bin",
        "freezeframe",
    ]);
    step::timed("controller", || run::shown(cargo.stdout(std::io::stderr())))
}

/// The workspace's own cargo, told where the BPF object is.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(paths::root())
        .env(OBJECT_ENV, paths::bpf_object());
    command
}
