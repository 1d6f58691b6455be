//! The kernel module: one build per kernel and variant, each in its own copy of `kmod/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result};

use crate::kernel::Series;
use crate::{debug_kernel, paths, run, step};

/// A way to build the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As it is shipped.
    Release,
    /// With fault injection, for the tests.
    Test,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Release, Self::Test];

    /// The name, as in the build directory's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Test => "test",
        }
    }
}

/// Builds the module where its sources changed, and returns its path.
pub fn build(series: Series, variant: Variant) -> Result<PathBuf> {
    let kernel = series.unpacked()?;
    let source = paths::root().join("kmod");
    let sources = sources(&source)?;
    // A kernel that is built here keeps its release when its configuration changes.
    let config = kernel.headers().join(".config");
    let name = format!("{}-{}", series.name(), variant.name());
    let work = paths::target().join("kmod").join(&name);
    let module = work.join("freezeframe.ko");
    let key = step::key((
        step::tree_key(&sources)?,
        step::tree_key(&[config])?,
        &kernel.release,
        variant.name(),
    ));
    step::cached(&format!("module {name}"), key, &module, || {
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        for file in &sources {
            copy(file, &work.join(file.strip_prefix(&source)?))?;
        }
        let mut make = Command::new("make");
        make.arg(format!("-j{}", available_parallelism()?));
        make.arg(format!("KDIR={}", kernel.headers().display()));
        if series == Series::Debug {
            make.arg(format!("CC={}", debug_kernel::COMPILER));
        }
        if variant == Variant::Test {
            make.arg("FREEZEFRAME_TEST=1");
        }
        // Only what make needs: cargo's and rustup's variables are none of its business.
        run::logged(
            &format!("module-{name}"),
            make.current_dir(&work).env_remove("MAKEFLAGS"),
        )
    })?;
    Ok(module)
}

/// The files of the module that are not built ones.
fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if !name.starts_with('.')
            && (name == "Makefile" || name == "Kbuild" || name.ends_with(".h") || is_c_source(&name))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_c_source(name: &str) -> bool {
    name.ends_with(".c") && !name.ends_with(".mod.c")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
