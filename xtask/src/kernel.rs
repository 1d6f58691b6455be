//! The kernels that Freezeframe supports, fetched from Debian and unpacked below `target/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::apt::Apt;
use crate::{paths, step};

/// A supported series of kernels; the name is what `--kernel` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Series {
    /// Debian 12's own
    #[value(name = "6.1")]
    V6_1,
    /// Debian 12's backports
    #[value(name = "6.12")]
    V6_12,
    /// The 6.12 once more, built here with the kernel's own checks: slow, and compiled on its first use
    #[value(name = "debug")]
    Debug,
}

impl Series {
    /// Every supported series, the default first. The debug kernel is none: it runs where it is asked for by name.
    pub const ALL: [Self; 2] = [Self::V6_12, Self::V6_1];

    /// The name, as in `6.12`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Debug => "debug",
        }
    }

    /// What a guest's time limits are multiplied by: under emulation, the checks of the debug kernel cost that much.
    pub const fn slowness(self) -> u32 {
        match self {
            Self::V6_1 | Self::V6_12 => 1,
            Self::Debug => 6,
        }
    }

    /// The memory of a guest that does not ask for any; KASAN keeps an eighth to itself, lockdep and kmemleak more.
    pub const fn mem_mib(self) -> u32 {
        match self {
            Self::V6_1 | Self::V6_12 => 2048,
            Self::Debug => 4096,
        }
    }

    /// Whether the guest's image holds its modules; where not, they come with the job.
    pub fn in_image(self) -> bool {
        Self::ALL.contains(&self)
    }

    /// The directory it is unpacked to.
    pub fn root(self) -> PathBuf {
        paths::cache().join("kernels").join(self.name())
    }

    /// The kernel as it was unpacked by [`fetch`].
    pub fn unpacked(self) -> Result<Kernel> {
        let root = self.root();
        let release = fs::read_to_string(root.join(RELEASE_FILE))
            .with_context(|| format!("kernel {} is not there; run `cargo xtask setup`", self.name()))?;
        Ok(Kernel {
            root,
            release: release.trim().to_owned(),
        })
    }
}

/// An unpacked kernel.
pub struct Kernel {
    /// The directory it was unpacked to.
    pub root: PathBuf,
    /// What `uname -r` says, as in `6.1.0-56-cloud-amd64`.
    pub release: String,
}

impl Kernel {
    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// What it wants on its command line.
    pub fn parameters(&self) -> &'static str {
        // Seen once with five levels: KASAN called an interrupt's accesses wild while identify_cpu() ran. Most likely because that
        // clears the processor's features for a moment, and KASAN asks them where memory begins.
        if self.root == Series::Debug.root() {
            " no5lvl"
        } else {
            ""
        }
    }

    /// The configuration it was built with, where Debian built it.
    pub fn config(&self) -> PathBuf {
        self.root.join(format!("boot/config-{}", self.release))
    }

    /// The build directory for modules (`KDIR`).
    pub fn headers(&self) -> PathBuf {
        self.root.join(format!("usr/src/linux-headers-{}", self.release))
    }

    /// The directory of its own modules.
    pub fn modules(&self) -> PathBuf {
        let plain = self.root.join("lib/modules").join(&self.release);
        if plain.exists() {
            plain
        } else {
            self.root.join("usr/lib/modules").join(&self.release)
        }
    }
}

/// The file below the root that holds the release, written last.
pub const RELEASE_FILE: &str = "release";

/// Raised when what [`unpack`] does changes.
const UNPACK_VERSION: u32 = 1;

/// Downloads and unpacks every supported kernel with its headers.
pub fn fetch(apt: &Apt) -> Result<()> {
    for series in Series::ALL {
        let root = series.root();
        // The headers name the place they were unpacked to: a moved checkout unpacks again.
        let key = step::key((apt.sources(), UNPACK_VERSION, &root));
        step::cached(
            &format!("kernel {}", series.name()),
            key,
            &root.join(RELEASE_FILE),
            || {
                apt.update()?;
                unpack(apt, series)
            },
        )?;
    }
    Ok(())
}

fn unpack(apt: &Apt, series: Series) -> Result<()> {
    let (version, image) = newest_image(apt, series)?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    let headers = format!("linux-headers-{release}");
    let mut packages = vec![format!("{image}={version}"), format!("{headers}={version}")];
    let records = apt.versions(&headers)?;
    let Some((_, depends)) = records.into_iter().find(|(found, _)| *found == version) else {
        bail!("the mirror has {image} {version} but not {headers}");
    };
    for name in depends {
        if name.ends_with("-common") {
            packages.push(format!("{name}={version}"));
        } else if name.starts_with("linux-kbuild-") {
            packages.push(name);
        }
    }
    let root = series.root();
    apt.unpack(&packages, &root)?;
    relocate(&root.join("usr/src").join(&headers), &root)?;
    fs::write(root.join(RELEASE_FILE), &release)?;
    Ok(())
}

/// The version and the package of the newest kernel of `series`.
fn newest_image(apt: &Apt, series: Series) -> Result<(String, String)> {
    let prefix = format!("{}.", series.name());
    for (version, depends) in apt.versions("linux-image-cloud-amd64")? {
        if !version.starts_with(&prefix) {
            continue;
        }
        if let Some(image) = depends.into_iter().find(|name| name.starts_with("linux-image-")) {
            return Ok((version, image));
        }
    }
    bail!(
        "the Debian mirror has no cloud kernel of the {} series; name another with --mirror",
        series.name()
    )
}

/// The headers include their common half by its absolute path: point that into `root`.
fn relocate(headers: &Path, root: &Path) -> Result<()> {
    let makefile = headers.join("Makefile");
    let text =
        fs::read_to_string(&makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
    let moved = text.replace(
        "include /usr/src/",
        &format!("include {}/usr/src/", root.display()),
    );
    fs::write(&makefile, moved).with_context(|| format!("cannot write {}", makefile.display()))
}
