//! Which QEMU runs the guests.
//!
//! Without KVM, QEMU before 8.1 may go on with its translation of an `int3` that the guest's kernel has replaced
//! meanwhile. Attaching a BPF program to a function that another processor is in then panics the guest
//! (`Oops: int3`): with 7.2, after a handful of snapshots under load. Debian 12 has 7.2, and a newer one among its
//! backports: that is unpacked below `target/`, and runs on the libraries of the installed one.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{Apt, BACKPORTS};
use crate::{paths, run, step};

/// The program, on `PATH` or unpacked.
const PROGRAM: &str = "qemu-system-x86_64";

/// The first version that we take from `PATH`.
const WANTED: (u32, u32) = (8, 1);

/// What it consists of.
const PACKAGES: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

/// The QEMU to start.
pub fn program() -> Result<PathBuf> {
    if newer_installed()? {
        return Ok(PROGRAM.into());
    }
    Ok(unpacked())
}

/// Gets a QEMU where the installed one is too old.
pub fn fetch(apt: &Apt) -> Result<()> {
    if newer_installed()? {
        return Ok(());
    }
    step::cached("qemu", step::key((apt.sources(), PACKAGES)), &unpacked(), || {
        apt.update()?;
        let packages = PACKAGES.map(|name| format!("{name}/{BACKPORTS}"));
        apt.unpack(&packages, &root())?;
        version(&unpacked().to_string_lossy()).map(drop)
    })
}

fn root() -> PathBuf {
    paths::cache().join("qemu")
}

fn unpacked() -> PathBuf {
    root().join("usr/bin").join(PROGRAM)
}

fn newer_installed() -> Result<bool> {
    Ok(run::on_path(PROGRAM) && version(PROGRAM)? >= WANTED)
}

fn version(program: &str) -> Result<(u32, u32)> {
    let text = run::output(Command::new(program).arg("--version"))?;
    parse(&text).with_context(|| format!("`{program} --version` names no version: {text}"))
}

fn parse(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once("version ")?.1.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn versions_are_read() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(parse(debian), Some((7, 2)));
        assert_eq!(parse("QEMU emulator version 10.0.2 (Debian)"), Some((10, 0)));
        assert_eq!(parse("no such program"), None);
    }
}
