//! Doing a step only when its inputs changed, and saying how long it took.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::paths::Paths;

/// The fingerprint of a step's inputs (64-bit FNV-1a: it detects change, it is no protection).
#[derive(Debug, Clone)]
pub struct Inputs(u64);

impl Inputs {
    /// The inputs of a step that has none yet.
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        for byte in bytes.as_ref().iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    /// Adds the names and contents of all files under a directory, or one file's.
    pub fn tree(mut self, path: &Path) -> Result<Self> {
        if path.is_dir() {
            for entry in sorted(path)? {
                self = self.tree(&entry)?;
            }
            return Ok(self);
        }
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.bytes(path.as_os_str().as_encoded_bytes()).bytes(content))
    }

    /// The fingerprint as text.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The entries of a directory, in a stable order.
pub fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect() };
    let mut entries = read().with_context(|| format!("cannot list {}", dir.display()))?;
    entries.sort();
    Ok(entries)
}

/// Runs `work` unless it already succeeded with these inputs and `product` is still there.
///
/// Prints one line: what was done and how long it took. An unchanged step is silent.
pub fn step(
    paths: &Paths,
    name: &str,
    inputs: &Inputs,
    product: &Path,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stamp = paths.cache("stamps").join(name.replace([' ', '/'], "-"));
    if product.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == inputs.hex()) {
        return Ok(());
    }
    eprintln!("xtask: {name} …");
    let start = Instant::now();
    // A half-done step must not pass for a finished one.
    if let Err(e) = fs::remove_file(&stamp)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(e).with_context(|| format!("cannot remove {}", stamp.display()));
    }
    work().with_context(|| format!("{name} failed"))?;
    fs::create_dir_all(paths.cache("stamps"))?;
    fs::write(&stamp, inputs.hex()).with_context(|| format!("cannot write {}", stamp.display()))?;
    eprintln!("xtask: {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Holds the lock of the cache, so that two `cargo xtask` do not set up the same thing at once.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Waits for the lock; it is released when the value is dropped.
    pub fn take(paths: &Paths) -> Result<Self> {
        fs::create_dir_all(paths.cache(""))?;
        let path = paths.cache("lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("xtask: waiting for another cargo xtask to finish its set-up or build");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Self { _file: file })
    }
}
