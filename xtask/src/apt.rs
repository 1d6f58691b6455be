//! A private apt: its own sources, lists and cache below `target/`, so the machine's stay as they are.
//!
//! The mirror is the one that the machine's own sources name; elsewhere `--mirror` or
//! `FREEZEFRAME_DEBIAN_MIRROR` does.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, run};

/// The release that the guest is made of.
pub const RELEASE: &str = "bookworm";

/// Where that release keeps newer kernels.
pub const BACKPORTS: &str = "bookworm-backports";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR_ENV: &str = "FREEZEFRAME_DEBIAN_MIRROR";

/// The release whose criu is measured against: the newest that Debian has released.
pub const NEWER: &str = "trixie";

/// The apt sources of the guest, of its kernels and of its emulator; or those of one other release.
pub struct Apt {
    name: &'static str,
    sources: Vec<String>,
    updated: Cell<bool>,
}

impl Apt {
    /// The sources on `mirror`, or on the mirror that the environment or the machine names.
    pub fn new(mirror: Option<&str>) -> Result<Self> {
        let (main, security) = mirrors(mirror)?;
        let mut sources = vec![line(&main, RELEASE), line(&main, BACKPORTS)];
        if let Some(uri) = security {
            sources.push(line(&uri, &format!("{RELEASE}-security")));
        }
        Ok(Self {
            name: "apt",
            sources,
            updated: Cell::new(false),
        })
    }

    /// The sources of [`NEWER`] alone.
    pub fn newer(mirror: Option<&str>) -> Result<Self> {
        Ok(Self {
            name: "apt-newer",
            sources: vec![line(&mirrors(mirror)?.0, NEWER)],
            updated: Cell::new(false),
        })
    }

    /// The sources the guest's own packages come from, as one-line entries.
    pub fn guest_sources(&self) -> Vec<&str> {
        self.sources
            .iter()
            .map(String::as_str)
            .filter(|line| !line.contains(BACKPORTS))
            .collect()
    }

    /// Every source, for the keys of cached steps.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Fetches the package lists, once.
    pub fn update(&self) -> Result<()> {
        if self.updated.get() {
            return Ok(());
        }
        let dir = self.dir();
        fs::create_dir_all(dir.join("state/lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        fs::write(dir.join("sources.list"), self.sources.join("\n") + "\n")?;
        run::logged("apt-update", self.private("apt-get").arg("update"))?;
        self.updated.set(true);
        Ok(())
    }

    /// The records of every known version of `package`, each as (version, dependencies).
    pub fn versions(&self, package: &str) -> Result<Vec<(String, Vec<String>)>> {
        let text = run::output(self.private("apt-cache").args(["show", package]))?;
        Ok(text.split("\n\n").filter_map(parse_record).collect())
    }

    /// `package` and all that it depends on.
    pub fn closure(&self, package: &str) -> Result<Vec<String>> {
        let mut simulation = self.private("apt-get");
        simulation.args(["install", "--simulate", "--no-install-recommends", package]);
        Ok(parse_simulation(&run::output(&mut simulation)?))
    }

    /// Downloads packages (`name`, `name=version` or `name/suite`) and unpacks them into `root`, which is emptied first.
    pub fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let name = root.file_name().unwrap_or_default().to_string_lossy();
        let debs = paths::cache().join("debs").join(&*name);
        for dir in [root, &debs] {
            if dir.exists() {
                fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
            }
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let mut download = self.private("apt-get");
        download.arg("download").args(packages).current_dir(&debs);
        run::logged(&format!("apt-download-{name}"), &mut download)?;
        for entry in fs::read_dir(&debs)? {
            run::output(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(root))?;
        }
        Ok(fs::remove_dir_all(&debs)?)
    }

    fn dir(&self) -> PathBuf {
        paths::cache().join(self.name)
    }

    fn private(&self, program: &str) -> Command {
        let dir = self.dir();
        let mut command = Command::new(program);
        for (option, value) in [
            ("Dir::State", dir.join("state")),
            ("Dir::State::status", "/dev/null".into()),
            ("Dir::Cache", dir.join("cache")),
            ("Dir::Etc::sourcelist", dir.join("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::Etc::preferences", "/dev/null".into()),
            ("Dir::Etc::preferencesparts", "/dev/null".into()),
            ("APT::Sandbox::User", "root".into()),
            ("APT::Architecture", "amd64".into()),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command
    }
}

fn line(uri: &str, suite: &str) -> String {
    format!("deb [signed-by={KEYRING}] {uri} {suite} main")
}

/// The mirror that is named, or the machine's.
fn mirrors(mirror: Option<&str>) -> Result<(String, Option<String>)> {
    let named = mirror
        .map(str::to_owned)
        .or_else(|| std::env::var(MIRROR_ENV).ok());
    named.map_or_else(machine_mirrors, |uri| Ok((uri, None)))
}

/// The machine's mirrors of Debian: the main archive, and the security archive where it has one.
fn machine_mirrors() -> Result<(String, Option<String>)> {
    let codename = os_release("VERSION_CODENAME").unwrap_or_default();
    let text = run::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]))
    .context("cannot read the machine's apt sources")?;
    let Some(main) = repository(&text, RELEASE).or_else(|| repository(&text, &codename)) else {
        bail!(
            "the machine's apt sources name no Debian mirror; name one with --mirror URL or {MIRROR_ENV} \
             (a copy of the main archive that has {RELEASE} and {BACKPORTS})"
        );
    };
    let security = repository(&text, &format!("{RELEASE}-security"))
        .or_else(|| repository(&text, &format!("{codename}-security")));
    Ok((main, security))
}

fn repository(targets: &str, release: &str) -> Option<String> {
    targets.lines().find_map(|line| match line.split_once(' ') {
        Some((uri, name)) if name == release => Some(uri.to_owned()),
        _ => None,
    })
}

fn os_release(field: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// The packages of lines such as `Inst libc6 (2.41-12 Debian:13 [amd64])`.
fn parse_simulation(text: &str) -> Vec<String> {
    let packages = text.lines().filter_map(|line| line.strip_prefix("Inst "));
    packages
        .filter_map(|rest| rest.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn parse_record(record: &str) -> Option<(String, Vec<String>)> {
    let field = |name: &str| {
        record
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let depends = field("Depends").unwrap_or_default();
    let depends = depends
        .split(", ")
        .filter_map(|entry| entry.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    Some((field("Version")?.to_owned(), depends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_version_and_names() {
        let record =
            "Package: linux-headers\nVersion: 6.1.1-2\nDepends: linux-kbuild-6.1 (>= 6.1), gcc-12 | gcc";
        let parsed = parse_record(record).unwrap();
        assert_eq!(parsed.0, "6.1.1-2");
        assert_eq!(parsed.1, ["linux-kbuild-6.1", "gcc-12"]);
    }

    #[test]
    fn what_would_be_installed_is_read() {
        let text = "Reading package lists...\nInst libc6 (2.41-12 Debian:13 [amd64])\nConf libc6 (2.41-12)";
        assert_eq!(parse_simulation(text), ["libc6"]);
    }

    #[test]
    fn a_mirror_is_found_by_its_release() {
        let targets = "http://a/debian/ bookworm\nhttp://b/security/ bookworm-security";
        assert_eq!(
            repository(targets, "bookworm-security").as_deref(),
            Some("http://b/security/")
        );
        assert_eq!(repository(targets, "sid"), None);
    }
}
