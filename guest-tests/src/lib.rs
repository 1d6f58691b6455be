//! What the tests in the guest share: the controller as a program, the device, an image reader of their own (independent of the controller's, so
//! that the two check each other), the module's fault injection, and the
//! processes that are snapshotted, with what must hold of them.

use std::process::Command;
use std::time::Duration;

pub mod board;
pub mod client;
pub mod controller;
pub mod criu;
pub mod cupboard;
pub mod device;
pub mod disk;
pub mod drain;
pub mod drift;
pub mod garage;
pub mod held;
pub mod image;
pub mod knob;
pub mod memory;
pub mod oracle;
pub mod pressure;
pub mod reset;
pub mod sectors;
pub mod target;
pub mod ticks;
pub mod unchanged;
pub mod userfault;

/// Runs a script to its end, and returns what it said.
///
/// # Panics
///
/// When any command of it fails.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script])
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{script}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Does the processor have protection keys, and the kernel use them?
///
/// # Panics
///
/// When the kernel does not say.
#[must_use]
pub fn has_protection_keys() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").expect("the kernel says");
    text.split_ascii_whitespace().any(|flag| flag == "ospke")
}

/// How many times a test repeats itself: more under `cargo xtask soak`.
#[must_use]
pub fn rounds(usually: usize) -> usize {
    rounds_of(usually, usually * 10)
}

/// How many times a test repeats itself that is slow: usually, and under `cargo xtask soak`.
#[must_use]
pub fn rounds_of(usually: usize, soaking: usize) -> usize {
    if std::env::var_os("FF_SOAK").is_some() {
        soaking
    } else {
        usually
    }
}

/// The first so many of the cases; under `cargo xtask soak` all of them.
#[must_use]
pub fn few<T>(cases: &[T], usually: usize) -> &[T] {
    &cases[..rounds_of(usually, cases.len())]
}

/// How long a test waits before it gives up: longer on the debug kernel.
#[must_use]
pub fn patience(seconds: u64) -> Duration {
    let slowness = std::env::var("FF_SLOWNESS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds) * slowness.unwrap_or(1)
}
