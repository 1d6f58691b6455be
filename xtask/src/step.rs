//! Steps: one line with the time taken, and nothing done again while the inputs stay the same.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::paths;

/// Does `work` unless `output` exists and was made from inputs with the same `key`.
pub fn cached(name: &str, key: u64, output: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = stamp_path(name);
    if output.exists() && fs::read_to_string(&stamp).is_ok_and(|text| text == format!("{key:016x}")) {
        return Ok(());
    }
    match fs::remove_file(&stamp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", stamp.display()));
        }
        _ => {}
    }
    timed(name, work)?;
    fs::create_dir_all(stamp.parent().unwrap_or(Path::new(".")))?;
    fs::write(&stamp, format!("{key:016x}")).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Does `work` and prints one line with the time it took.
pub fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("  {name} …");
    let start = Instant::now();
    let value = work().with_context(|| format!("step `{name}`"))?;
    eprintln!("  {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(value)
}

/// Holds off other xtask processes that set up or build in the same target directory.
pub fn lock() -> Result<File> {
    let cache = paths::cache();
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("  waiting for another xtask …");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// A key over anything hashable.
pub fn key(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A key over the names and contents of every file below `paths`.
pub fn tree_key(paths: &[PathBuf]) -> Result<u64> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

fn stamp_path(name: &str) -> PathBuf {
    let file: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    paths::cache().join("stamps").join(file)
}
