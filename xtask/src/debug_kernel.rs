//! The debug kernel: the source of Debian's 6.12, built here with the kernel's own checks (KASAN, lockdep, kmemleak
//! and others; `guest/debug.config`). Everything that guests need of it is built in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};

use crate::apt::Apt;
use crate::kernel::{RELEASE_FILE, Series};
use crate::{run, step};

/// The compiler of the kernel, and so of the modules for it: the one that Debian built its own with.
pub const COMPILER: &str = "gcc-12";

/// What differs from Debian's configuration.
const CHANGES: &str = include_str!("../guest/debug.config");

/// The Debian package of the source, and the directory that its tarball holds.
const SOURCE: &str = "linux-source-6.12";

/// What `uname -r` says after the version.
const LOCAL_VERSION: &str = "CONFIG_LOCALVERSION=\"-debug\"\n";

/// Raised when what [`build`] does changes.
const BUILD_VERSION: u32 = 1;

/// Fetches the source and builds the kernel, where it is missing or its inputs changed.
pub fn ensure(apt: &Apt) -> Result<()> {
    let stock = Series::V6_12.unpacked()?;
    let root = Series::Debug.root();
    let tree = root.join(SOURCE);
    // Modules are built in the tree, whose files name its place.
    let source_key = step::key((&stock.release, &root));
    step::cached("debug kernel source", source_key, &tree.join("Makefile"), || {
        apt.update()?;
        unpack(apt, &stock.release, &root)
    })?;
    let path = stock.config();
    let base = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let config = configuration(&base, &format!("{CHANGES}{LOCAL_VERSION}"));
    let key = step::key((source_key, &config, BUILD_VERSION));
    step::cached("kernel debug", key, &root.join(RELEASE_FILE), || {
        eprintln!("  a whole kernel is compiled: some 25 minutes on two processors");
        build(&root, &tree, &config)
    })
}

/// Unpacks the source that the kernel `release` was built from.
fn unpack(apt: &Apt, release: &str, root: &Path) -> Result<()> {
    let image = format!("linux-image-{release}");
    let Some((version, _)) = apt.versions(&image)?.into_iter().next() else {
        bail!("the mirror no longer has {image}; remove target/xtask/kernels/6.12 to get the newest");
    };
    apt.unpack(&[format!("{SOURCE}={version}")], root)?;
    let tarball = root.join(format!("usr/src/{SOURCE}.tar.xz"));
    run::output(Command::new("tar").arg("-xf").arg(&tarball).arg("-C").arg(root))?;
    Ok(fs::remove_file(&tarball)?)
}

/// Builds the kernel in `tree` and puts what guests and modules need where [`crate::kernel::Kernel`] looks for it.
///
/// The tree stays as it is: another configuration compiles only what it touches.
fn build(root: &Path, tree: &Path, config: &str) -> Result<()> {
    let make = |log: &str, arguments: &[&str]| {
        let mut make = Command::new("make");
        make.arg(format!("CC={COMPILER}")).args(arguments);
        run::logged(log, make.current_dir(tree).env_remove("MAKEFLAGS"))
    };
    fs::write(tree.join(".config"), config)?;
    make("debug-kernel-config", &["olddefconfig"])?;
    let result = fs::read_to_string(tree.join(".config"))?;
    let lost = lost(CHANGES, &result);
    if !lost.is_empty() {
        bail!(
            "xtask/guest/debug.config asks for what the kernel's dependencies do not give: {}",
            lost.join(", ")
        );
    }
    let jobs = format!("-j{}", available_parallelism()?);
    // `modules` builds none, but writes what modules are linked against.
    make("debug-kernel", &[&jobs, "bzImage", "modules"])?;

    let release = fs::read_to_string(tree.join("include/config/kernel.release"))?;
    let release = release.trim();
    let modules = format!("lib/modules/{release}");
    for dir in ["boot", "lib", "usr"] {
        let dir = root.join(dir);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
    }
    for dir in ["boot", "usr/src", &modules] {
        fs::create_dir_all(root.join(dir))?;
    }
    let copy = |from: &str, to: String| {
        fs::copy(tree.join(from), root.join(&to)).with_context(|| format!("cannot copy {from} to {to}"))
    };
    copy("arch/x86/boot/bzImage", format!("boot/vmlinuz-{release}"))?;
    symlink(tree, root.join(format!("usr/src/linux-headers-{release}")))?;
    // By these, modprobe knows what is built in.
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        copy(name, format!("{modules}/{name}"))?;
    }
    run::output(Command::new("depmod").arg("-b").arg(root).arg(release))?;
    Ok(fs::write(root.join(RELEASE_FILE), release)?)
}

/// `base` without its modules and with `changes`.
fn configuration(base: &str, changes: &str) -> String {
    let changed: Vec<&str> = changes.lines().filter_map(symbol).collect();
    let mut config = String::new();
    for line in base.lines() {
        let Some(name) = symbol(line).filter(|name| !changed.contains(name)) else {
            continue;
        };
        if line.ends_with("=m") {
            config.push_str(&format!("# {name} is not set\n"));
        } else {
            config.push_str(&format!("{line}\n"));
        }
    }
    for line in changes.lines().filter(|line| symbol(line).is_some()) {
        config.push_str(&format!("{line}\n"));
    }
    config
}

/// The lines of `changes` that do not hold in `config`.
fn lost<'a>(changes: &'a str, config: &str) -> Vec<&'a str> {
    let holds = |line: &str, name: &str| {
        config.lines().any(|other| other == line)
            // What no dependency allows is not even named.
            || (line.starts_with('#') && !config.lines().any(|other| symbol(other) == Some(name)))
    };
    changes
        .lines()
        .filter(|line| symbol(line).is_some_and(|name| !holds(line, name)))
        .collect()
}

/// The symbol that a line of a configuration sets or unsets.
fn symbol(line: &str) -> Option<&str> {
    if let Some(rest) = line.strip_prefix("# ") {
        return rest
            .strip_suffix(" is not set")
            .filter(|name| name.starts_with("CONFIG_"));
    }
    let (name, _) = line.split_once('=')?;
    name.starts_with("CONFIG_").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: &str = "# Checks.\nCONFIG_KASAN=y\n\n# CONFIG_XEN is not set\nCONFIG_CMDLINE=\"a=b\"\n";

    #[test]
    fn modules_go_and_changes_come() {
        let base = "#\n# Menu\nCONFIG_XEN=y\n# CONFIG_KASAN is not set\nCONFIG_SOUND=m\nCONFIG_SMP=y\n";
        assert_eq!(
            configuration(base, CHANGES),
            "# CONFIG_SOUND is not set\nCONFIG_SMP=y\nCONFIG_KASAN=y\n# CONFIG_XEN is not set\nCONFIG_CMDLINE=\"a=b\"\n"
        );
    }

    #[test]
    fn what_does_not_hold_is_named() {
        assert_eq!(
            lost(CHANGES, "CONFIG_XEN=y\nCONFIG_CMDLINE=\"a=b\"\n"),
            ["CONFIG_KASAN=y", "# CONFIG_XEN is not set"]
        );
        assert!(lost(CHANGES, "CONFIG_KASAN=y\nCONFIG_CMDLINE=\"a=b\"\n").is_empty());
    }

    #[test]
    fn every_change_is_made_once() {
        let mut names: Vec<_> = super::CHANGES.lines().filter_map(symbol).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
