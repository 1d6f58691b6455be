//! Where things are: one place per path.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = manifest.canonicalize().unwrap_or_else(|_| manifest.to_path_buf());
    manifest
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A path as one would type it in the current directory.
pub fn from_here(path: &Path) -> &Path {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok())
        .unwrap_or(path)
}

/// Cargo's target directory, below which everything is cached.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        None => root().join("target"),
    }
}

/// What xtask itself fetched or built: kernels, tools, the guest's image.
pub fn cache() -> PathBuf {
    target().join("xtask")
}

/// Full output of the steps that run quietly.
pub fn logs() -> PathBuf {
    cache().join("log")
}

/// Runs and results of guests.
pub fn guest() -> PathBuf {
    target().join("guest")
}

/// Programs installed for the build (`bpf-linker`).
pub fn tools() -> PathBuf {
    cache().join("tools")
}

/// The BPF object that the controller embeds.
pub fn bpf_object() -> PathBuf {
    target().join("bpf/freezeframe.bpf.o")
}

/// The controller's binary.
pub fn controller() -> PathBuf {
    target().join("release/freezeframe")
}
