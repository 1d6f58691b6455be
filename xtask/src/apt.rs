//! Debian packages: those of the host, and those that are only downloaded.
//!
//! Downloads go through a private apt configuration under `target/xtask/apt`; the machine's own sources are read,
//! never changed. No mirror is named here: it is the one that the machine uses, or the one that an option names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::run;
use crate::stamp::{self, Inputs};

/// Names a mirror (`URL/debian`) where the machine's own apt sources do not.
pub const MIRROR_ENV: &str = "FREEZEFRAME_DEBIAN_MIRROR";

/// The release that the guest runs; its backports bring the newer kernel.
pub const RELEASE: &str = "bookworm";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Whether this machine installs software with apt.
pub fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && run::on_path("apt-get")
}

/// Whether every one of these packages is installed.
pub fn installed(packages: &[&str]) -> bool {
    missing(packages).is_empty()
}

fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let known = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
        .unwrap_or_default();
    let is_in = |p: &str| known.lines().any(|line| line == format!("{p} installed"));
    packages.iter().copied().filter(|p| !is_in(p)).collect()
}

/// Installs what is missing, or says what to install where we cannot.
pub fn install(packages: &[&str]) -> Result<()> {
    if !is_debian() {
        bail!(
            "this machine is not a Debian one, so nothing was installed; \
             set-up needs what these Debian packages contain: {}",
            packages.join(" ")
        );
    }
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("packages are missing and we are not root; run: sudo apt-get install {}", missing.join(" "));
    }
    eprintln!("xtask: installing {} …", missing.join(" "));
    let start = std::time::Instant::now();
    let apt = |args: &[&str]| {
        let mut cmd = Command::new("apt-get");
        cmd.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        cmd
    };
    run::run(apt(&["update", "-q"]).stdout(std::io::stderr()))?;
    run::run(apt(&["install", "-y", "-q", "--no-install-recommends"]).args(&missing).stdout(std::io::stderr()))
        .context("the packages can be installed by hand, then run this again")?;
    eprintln!("xtask: packages installed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Whether apt knows a version of every one of these packages.
pub fn available(packages: &[&str]) -> bool {
    packages.iter().all(|p| {
        run::output(Command::new("apt-cache").args(["policy", p]))
            .is_ok_and(|text| text.lines().any(|l| l.contains("Candidate:") && !l.contains("(none)")))
    })
}

/// Whether we run as root.
pub fn is_root() -> bool {
    run::output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// A private apt: its own sources and lists, nothing of the machine's.
#[derive(Debug)]
pub struct PrivateApt {
    dir: PathBuf,
}

impl PrivateApt {
    /// Writes the configuration and fetches the package lists, unless that was done with the same sources.
    pub fn prepare(paths: &Paths) -> Result<Self> {
        let apt = Self { dir: paths.cache("apt") };
        let sources = sources()?;
        let inputs = Inputs::new().bytes(&sources).bytes(apt.dir.as_os_str().as_encoded_bytes());
        stamp::step(paths, "package lists", &inputs, &apt.sources_file(), || {
            for dir in ["state/lists/partial", "cache/archives/partial", "parts"] {
                fs::create_dir_all(apt.dir.join(dir))?;
            }
            fs::write(apt.sources_file(), &sources)?;
            run::run_quietly(apt.command("apt-get").args(["update", "-q"]))
        })?;
        Ok(apt)
    }

    /// The sources, one `deb` line each.
    pub fn sources_file(&self) -> PathBuf {
        self.dir.join("sources.list")
    }

    /// One field of a package; `package` may be `name=version` or `name/suite`.
    pub fn field(&self, package: &str, field: &str) -> Result<String> {
        let text = run::output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let prefix = format!("{field}: ");
        match text.lines().find_map(|line| line.strip_prefix(&prefix)) {
            Some(value) => Ok(value.to_owned()),
            None => bail!("the package {package} has no field {field}"),
        }
    }

    /// The versions of a package that the sources offer, newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = run::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(table.lines().filter_map(|line| line.split('|').nth(1)).map(|v| v.trim().to_owned()).collect())
    }

    /// Downloads packages into a directory.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        fs::create_dir_all(into)?;
        run::run_quietly(self.command("apt-get").args(["download", "-q"]).args(packages).current_dir(into))
    }

    fn command(&self, program: &str) -> Command {
        let mut cmd = Command::new(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::State={dir}/state"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            format!("Dir::Etc::sourceparts={dir}/parts"),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Etc::preferencesparts={dir}/parts"),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            cmd.arg("-o").arg(option);
        }
        cmd
    }
}

/// The `deb` lines of the private apt: our release, its updates, its security fixes, its backports.
fn sources() -> Result<String> {
    let mut lines = Vec::new();
    let mut add = |uri: &str, suite: &str, keyring: &str| {
        let line = format!("deb [signed-by={keyring}] {uri} {suite} main");
        if !lines.contains(&line) {
            lines.push(line);
        }
    };
    let own = own_sources();
    let main = match env::var(MIRROR_ENV) {
        Ok(uri) => uri,
        Err(_) => match own.iter().find(|s| is_main_archive(s)) {
            Some(source) => source.uri.clone(),
            None => bail!(
                "no Debian mirror in this machine's apt sources; name one with --mirror URL or {MIRROR_ENV}=URL"
            ),
        },
    };
    for suite in [RELEASE.to_owned(), format!("{RELEASE}-updates"), format!("{RELEASE}-backports")] {
        add(&main, &suite, KEYRING);
    }
    let security = format!("{RELEASE}-security");
    if let Some(source) = own.iter().find(|s| s.suite == security) {
        add(&source.uri, &security, KEYRING);
    }
    Ok(lines.join("\n") + "\n")
}

/// A `deb` entry of the machine's own sources.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
}

/// An archive that carries whole Debian releases (their `-updates` suite lies beside them).
fn is_main_archive(source: &Source) -> bool {
    source.suite == RELEASE
        || (source.uri.trim_end_matches('/').ends_with("/debian") && source.suite.ends_with("-updates"))
}

/// What apt itself makes of the machine's sources, in whichever format they are written.
fn own_sources() -> Vec<Source> {
    let targets = run::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]));
    parse_targets(&targets.unwrap_or_default())
}

fn parse_targets(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(uri, suite)| Source { uri: uri.to_owned(), suite: suite.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_told_from_security_and_strangers() {
        let text = "http://m.example/debian-security/ bookworm-security\n\
                    http://other.example/repo/ stable\n\
                    http://m.example/debian/ bookworm\n";
        let sources = parse_targets(text);
        assert_eq!(sources.len(), 3);
        let main: Vec<_> = sources.iter().filter(|s| is_main_archive(s)).collect();
        assert_eq!(main.len(), 1);
        assert_eq!(main[0].uri, "http://m.example/debian/");
    }
}
