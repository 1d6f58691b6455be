//! `cargo xtask setup`, and the part of it that each other verb needs.

use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Result;

use crate::apt::Apt;
use crate::kernel::Series;
use crate::toolchain::Toolchain;
use crate::{criu, debug_kernel, emulator, host, image, kernel, run, step, toolchain};

/// Gets everything: Debian packages, the BPF toolchain, bpf-linker, the kernels, the guest's image.
#[derive(clap::Args)]
pub struct Args {
    /// The Debian mirror to use instead of the machine's own
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

/// Something that a verb needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// QEMU, the supported kernels, their headers and the guest's image.
    Guest,
    /// Besides them, this kernel, which may be one of them or the debug kernel.
    Kernel(Series),
    /// A toolchain that builds BPF objects.
    Bpf,
    /// The tools of `cargo xtask lint`.
    Lint,
    /// The tools of the formats that images are in.
    Formats,
    /// criu, for `cargo xtask bench`: done without where the mirror does not have it.
    Criu,
}

static MIRROR: OnceLock<String> = OnceLock::new();

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(mirror) = &args.mirror {
        // The first and only time that it is set.
        let _ = MIRROR.set(mirror.clone());
    }
    let _lock = step::lock()?;
    step::timed("setup", || {
        ensure(&[Need::Guest, Need::Bpf, Need::Lint, Need::Formats, Need::Criu])
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Gets what `needs` name and is not there yet.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let bpf = if needs.contains(&Need::Bpf) {
        Some(toolchain::choose()?)
    } else {
        None
    };
    let toolchains = bpf.map(Toolchain::packages).transpose()?.unwrap_or_default();
    let mut packages = host::BASE.to_vec();
    if needs.contains(&Need::Lint) {
        packages.extend(host::LINT);
        // Node.js' own packages bring npm and exclude Debian's.
        if !run::on_path("npm") {
            packages.push("npm");
        }
    }
    if needs.contains(&Need::Formats) {
        packages.extend(host::FORMATS);
    }
    if needs.contains(&Need::Guest) && !host::is_root() {
        packages.extend(host::NOT_ROOT);
    }
    packages.extend(toolchains.iter().map(String::as_str));
    host::ensure(&packages)?;
    if let Some(toolchain) = bpf {
        toolchain.ensure_linker()?;
    }
    if needs.contains(&Need::Guest) {
        let apt = Apt::new(MIRROR.get().map(String::as_str))?;
        emulator::fetch(&apt)?;
        kernel::fetch(&apt)?;
        image::ensure(&apt)?;
        if needs.contains(&Need::Kernel(Series::Debug)) {
            debug_kernel::ensure(&apt)?;
        }
    }
    if needs.contains(&Need::Criu)
        && let Err(error) = criu::fetch(MIRROR.get().map(String::as_str))
    {
        eprintln!("  criu will not be measured: {error:#}");
    }
    Ok(())
}
