//! What the host must have installed: Debian packages.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{run, step};

/// What every build and every guest needs. Of `qemu-system-x86`, an old one is good for its libraries (`emulator.rs`).
pub const BASE: &[&str] = &[
    "bc",
    "bison",
    "build-essential",
    "ca-certificates",
    "cpio",
    "e2fsprogs",
    "flex",
    "gcc-12",
    "kmod",
    // The crate devicemapper makes its bindings from the header of the one, by the other.
    "libclang-dev",
    "libdevmapper-dev",
    "libelf-dev",
    "libssl-dev",
    "mmdebstrap",
    "pahole",
    "qemu-system-x86",
    "util-linux",
    "xz-utils",
    "zstd",
];

/// What the guest's image needs besides where we are not root: files of its users, made in a user namespace.
pub const NOT_ROOT: &[&str] = &["uidmap"];

/// The tools that the host's tests open images with, besides.
pub const FORMATS: &[&str] = &["age", "b3sum", "lz4"];

/// What `cargo xtask lint` needs besides.
pub const LINT: &[&str] = &["clang-format", "shellcheck"];

/// Installs those of `packages` that are missing; where we may not, says exactly what to install.
pub fn ensure(packages: &[&str]) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "this machine is {}; the module and its guests are x86_64 only",
            std::env::consts::ARCH
        );
    }
    if !run::on_path("dpkg-query") || !run::on_path("apt-get") {
        bail!(
            "this is not Debian, so nothing can be installed here; the builds need what these Debian packages \
             hold, and `dpkg`, `apt` and `mmdebstrap` themselves to make the guest: {}. A Debian 12 container \
             has them all",
            packages.join(" ")
        );
    }
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!(
            "packages are missing and only root can install them; run: apt-get install {}",
            missing.join(" ")
        );
    }
    step::timed(&format!("install {}", missing.join(" ")), || {
        let apt = |arguments: &[&str]| {
            run::shown(
                Command::new("apt-get")
                    .args(arguments)
                    .env("DEBIAN_FRONTEND", "noninteractive")
                    .stdout(std::io::stderr()),
            )
        };
        apt(&["update", "-q"])?;
        let mut install = vec![
            "install",
            "-y",
            "-q",
            "-o",
            "Dpkg::Use-Pty=0",
            "--no-install-recommends",
        ];
        install.extend(&missing);
        apt(&install)
    })
}

/// Whether we run as root.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
    })
}

/// Those of `packages` that dpkg does not hold as installed.
pub fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    // dpkg-query exits with 1 when it knows nothing of a package, and lists the others all the same.
    let out = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let installed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect())
}
