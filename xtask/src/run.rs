//! Running other programs, so that a failure names the command and what to do about it.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs the command with our standard streams; anything but success is an error.
pub fn run(cmd: &mut Command) -> Result<()> {
    let status = cmd.status().map_err(|e| explain(cmd, &e))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(cmd));
    }
    Ok(())
}

/// Runs the command quietly; when it fails, the error carries what it printed.
pub fn run_quietly(cmd: &mut Command) -> Result<()> {
    output(cmd).map(drop)
}

/// Runs the command and returns its standard output; when it fails, the error carries what it printed.
pub fn output(cmd: &mut Command) -> Result<String> {
    let out = cmd.stdin(Stdio::null()).output().map_err(|e| explain(cmd, &e))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!("`{}` failed: {}\n{}{}", line(cmd), out.status, stdout, stderr);
    }
    Ok(stdout)
}

/// Whether the command could be started and succeeded; what it printed is thrown away.
pub fn succeeds(cmd: &mut Command) -> bool {
    cmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Whether a program of this name is on the PATH.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Reads a file, and names it in the error.
pub fn read(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The command as one would type it.
pub fn line(cmd: &Command) -> String {
    let words = std::iter::once(cmd.get_program()).chain(cmd.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn explain(cmd: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = cmd.get_program().to_string_lossy().into_owned();
    match error.kind() {
        ErrorKind::NotFound => {
            anyhow::anyhow!("cannot run {program}: it is not installed; `cargo xtask setup` installs what is missing")
        }
        _ => anyhow::anyhow!("cannot run {program}: {error}"),
    }
}
