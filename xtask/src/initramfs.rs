//! The initramfs of guests whose root is on a layer: made in a guest, by Debian's own tools and our hook.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::job::{Job, Outcome};
use crate::kernel::Series;
use crate::{image, paths, step};

/// An initramfs, and what its guest must know of it.
pub struct Initramfs {
    /// What the guest boots.
    pub image: PathBuf,
    /// The configuration of layers that is in it, and belongs on the guest's root.
    pub layers: PathBuf,
}

/// Makes it in the guest, from what lies beside it.
const BUILD: &str = include_str!("../guest/initramfs.sh");

/// Makes the initramfs for a kernel where it is missing or its inputs changed.
pub fn build(series: Series, controller: &Path) -> Result<Initramfs> {
    let package = paths::root().join("packaging/initramfs-tools");
    let kernel = series.unpacked()?;
    let out = paths::guest().join(format!("initramfs-{}", series.name()));
    let made = Initramfs {
        image: out.join("initrd.img"),
        layers: out.join("layers"),
    };
    let guest = fs::metadata(image::path()).and_then(|image| image.modified());
    let key = step::key((
        step::tree_key(&[package.clone(), controller.to_owned()])?,
        BUILD,
        &kernel.release,
        guest.context("the guest has no image; run `cargo xtask setup`")?,
    ));
    let name = format!("initramfs {}", series.name());
    step::cached(&name, key, &made.image, || {
        let dir = paths::guest().join("initramfs");
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        copy_tree(&package, &dir.join("initramfs-tools"))?;
        fs::write(dir.join("run.sh"), BUILD)?;
        fs::copy(kernel.headers().join(".config"), dir.join("config"))
            .context("cannot copy the kernel's configuration")?;
        let mut job = Job::new(dir, series);
        job.controller = Some(controller.to_owned());
        job.out.clone_from(&out);
        match job.run()? {
            Outcome::Finished(0) => Ok(()),
            Outcome::Finished(code) => bail!("exit code {code}; see {}", job.console().display()),
            Outcome::Died(reason) => bail!("{reason}; see {}", job.console().display()),
        }
    })?;
    Ok(made)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
