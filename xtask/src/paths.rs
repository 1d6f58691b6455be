//! Where things lie: every path that more than one module uses is made here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The repository and its target directory.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
    target: PathBuf,
}

impl Paths {
    /// Finds the repository: from Cargo when it started us, else upwards from the current directory.
    pub fn find() -> Result<Self> {
        let root = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir).parent().map(Path::to_path_buf),
            None => env::current_dir()?
                .ancestors()
                .find(|dir| dir.join("xtask/Cargo.toml").is_file())
                .map(Path::to_path_buf),
        };
        let Some(root) = root else { bail!("cannot find the repository; run this from inside it") };
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
        Ok(Self { root, target })
    }

    /// A path inside the repository.
    pub fn root(&self, rel: &str) -> PathBuf {
        self.root.join(rel)
    }

    /// A path inside the target directory.
    pub fn target(&self, rel: &str) -> PathBuf {
        self.target.join(rel)
    }

    /// A path inside `target/xtask/`, where everything that was downloaded or installed is kept.
    pub fn cache(&self, rel: &str) -> PathBuf {
        self.target.join("xtask").join(rel)
    }

    /// The BPF object that the controller embeds.
    pub fn bpf_object(&self) -> PathBuf {
        self.target("bpf/freezeframe.bpf.o")
    }

    /// The controller's binary, as `cargo xtask build` leaves it.
    pub fn controller(&self) -> PathBuf {
        self.target("release/freezeframe")
    }
}
