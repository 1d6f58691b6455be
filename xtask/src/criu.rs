//! criu, for comparison: from a newer Debian than the guest's, with its own C library, as one tar for the guest.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::apt::Apt;
use crate::{paths, run, step};

/// The package.
const PACKAGE: &str = "criu";

/// The tar.
pub fn path() -> PathBuf {
    paths::cache().join("criu.tar")
}

/// Makes the tar where it is missing.
pub fn fetch(mirror: Option<&str>) -> Result<()> {
    let apt = Apt::newer(mirror)?;
    step::cached(PACKAGE, step::key((apt.sources(), PACKAGE)), &path(), || {
        apt.update()?;
        let root = paths::cache().join(PACKAGE);
        apt.unpack(&apt.closure(PACKAGE)?, &root)?;
        let mut tar = Command::new("tar");
        // What runs; the rest is documentation.
        tar.arg("-C").arg(&root).arg("-cf").arg(path());
        run::logged("criu-tar", tar.args(["--exclude=./usr/share", "."]))
    })
}
