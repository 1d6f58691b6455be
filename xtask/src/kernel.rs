//! The kernels that are supported: where they come from, and where they lie once unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::apt::{self, PrivateApt};
use crate::paths::Paths;
use crate::run;
use crate::stamp::{self, Inputs};

/// A supported kernel series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Debian 12's own kernel.
    #[value(name = "6.1")]
    V6_1,
    /// The kernel of Debian 12's backports.
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    /// Every supported kernel.
    pub const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];

    /// The name in options, directories and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    fn suite(self) -> String {
        match self {
            Self::V6_1 => apt::RELEASE.to_owned(),
            Self::V6_12 => format!("{}-backports", apt::RELEASE),
        }
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A kernel that was downloaded and unpacked.
#[derive(Debug)]
pub struct Unpacked {
    dir: PathBuf,
    release: String,
}

impl Unpacked {
    /// What `uname -r` says on it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The file to boot.
    pub fn vmlinuz(&self) -> PathBuf {
        self.dir.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// What `make -C` wants in order to build a module for it.
    pub fn headers(&self) -> PathBuf {
        self.dir.join(format!("usr/src/linux-headers-{}", self.release))
    }

    /// The directory that holds its modules, by release.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules")
    }
}

/// Downloads and unpacks a kernel, unless that was done.
pub fn prepare(paths: &Paths, kernel: Kernel) -> Result<Unpacked> {
    let dir = paths.cache("kernels").join(kernel.name());
    let release_file = dir.join("release");
    // The path is an input: the headers' stubs are made to name it.
    let inputs = Inputs::new().bytes("kernel-1").bytes(dir.as_os_str().as_encoded_bytes());
    stamp::step(paths, &format!("kernel {kernel}"), &inputs, &release_file, || unpack(paths, kernel, &dir))?;
    let release = run::read(&release_file)?.trim().to_owned();
    Ok(Unpacked { dir, release })
}

fn unpack(paths: &Paths, kernel: Kernel, dir: &Path) -> Result<()> {
    let apt = PrivateApt::prepare(paths)?;
    let meta = format!("linux-headers-cloud-amd64/{}", kernel.suite());
    let version = version(&apt, kernel)?;
    let headers = first_dependency(&apt.field(&format!("linux-headers-cloud-amd64={version}"), "Depends")?, "")
        .with_context(|| format!("{meta} depends on no headers"))?;
    let depends = apt.field(&headers, "Depends")?;
    let common = first_dependency(&depends, "linux-headers-").context("the headers have no common part")?;
    let kbuild = first_dependency(&depends, "linux-kbuild-").context("the headers have no build tools")?;
    let Some(release) = headers.strip_prefix("linux-headers-") else { bail!("{headers} is no headers package") };

    let debs = dir.with_extension("debs");
    for stale in [dir, &debs] {
        if stale.exists() {
            fs::remove_dir_all(stale)?;
        }
    }
    fs::create_dir_all(dir)?;
    apt.download(&[format!("linux-image-{release}"), headers.clone(), common.clone(), kbuild], &debs)?;
    for deb in stamp::sorted(&debs)? {
        extract(&deb, dir)?;
    }
    fs::remove_dir_all(&debs)?;
    relocate(&dir.join(format!("usr/src/{headers}/Makefile")), &common, dir)?;
    // They lead out of our directory, and would lead nowhere in the guest.
    for link in ["build", "source"] {
        fs::remove_file(dir.join(format!("lib/modules/{release}/{link}")))?;
    }
    run::run_quietly(Command::new("/sbin/depmod").arg("-b").arg(dir).arg(release))?;
    fs::write(dir.join("release"), release)?;
    Ok(())
}

/// The newest version of the kernel of this series (`6.1` must not find 6.12 in the same lists).
fn version(apt: &PrivateApt, kernel: Kernel) -> Result<String> {
    let series = format!("{kernel}.");
    apt.versions("linux-headers-cloud-amd64")?.into_iter().find(|v| v.starts_with(&series)).with_context(|| {
        format!(
            "the mirror has no kernel {kernel}; does it carry the suite {}? Name another with --mirror",
            kernel.suite()
        )
    })
}

/// The first package in a `Depends` field whose name starts so.
fn first_dependency(depends: &str, prefix: &str) -> Option<String> {
    depends
        .split(',')
        .filter_map(|d| d.split_whitespace().next())
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

/// `dpkg -x` would replace symbolic links such as `lib` by directories.
fn extract(deb: &Path, into: &Path) -> Result<()> {
    let mut from = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn()?;
    let pipe = from.stdout.take().context("dpkg-deb has no output")?;
    run::run(Command::new("tar").args(["-x", "--keep-directory-symlink", "-C"]).arg(into).stdin(pipe))?;
    let status = from.wait()?;
    if !status.success() {
        bail!("cannot unpack {}: dpkg-deb: {status}", deb.display());
    }
    Ok(())
}

/// The headers' Makefile includes the common part by an absolute path: make it ours.
fn relocate(makefile: &Path, common: &str, dir: &Path) -> Result<()> {
    let text = run::read(makefile)?;
    let wanted = format!("/usr/src/{common}/");
    if !text.contains(&wanted) {
        bail!("{} does not include {wanted}; this kernel is packaged in a way unknown here", makefile.display());
    }
    fs::write(makefile, text.replace(&wanted, &format!("{}{wanted}", dir.display())))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_by_their_beginning() {
        let depends = "linux-base (>= 4), linux-headers-6.1.0-1-common (= 6.1.1-1), linux-kbuild-6.1 (>= 6), gcc-12";
        assert_eq!(first_dependency(depends, "linux-kbuild-").as_deref(), Some("linux-kbuild-6.1"));
        assert_eq!(first_dependency(depends, "linux-headers-").as_deref(), Some("linux-headers-6.1.0-1-common"));
        assert_eq!(first_dependency(depends, "clang"), None);
    }
}
