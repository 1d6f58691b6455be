//! Garage: the S3 server that the tests store images in, on the host and in guests.

use std::path::PathBuf;

use anyhow::Result;

use crate::cargo_tool;

const VERSION: &str = "2.5.0";

/// Builds it where it is not there yet, and returns the program.
pub fn ensure() -> Result<PathBuf> {
    let features = ["--no-default-features", "--features", "bundled-libs,sqlite"];
    cargo_tool::ensure("garage", VERSION, &features)
}
