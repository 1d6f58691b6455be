//! The guest's disk: one ext4 image for every kernel, made by mmdebstrap.
//!
//! It holds Debian's packages, the kernels' modules and the first stage of the init. What changes often (the
//! second stage, the module, the controller, the job) comes with the job.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{self, Apt};
use crate::kernel::{Kernel, Series};
use crate::{host, paths, run, step};

/// The packages in the guest besides Debian's minimal base.
const PACKAGES: &[&str] = &[
    "age",
    "btrfs-progs",
    "busybox",
    "ca-certificates",
    "curl",
    "dmsetup",
    "dosfstools",
    "e2fsprogs",
    "elfutils",
    "fdisk",
    "fio",
    "fuse2fs",
    "gdb",
    "initramfs-tools",
    "iproute2",
    "jq",
    "kmod",
    "libc6-dbg",
    "lldb-14",
    "lvm2",
    "openjdk-17-jdk-headless",
    "postgresql-15",
    "procps",
    "prometheus",
    "psmisc",
    "python3-dbg",
    "python3-drgn",
    "python3-minimal",
    "redis-server",
    "redis-tools",
    "socat",
    "sqlite3",
    "strace",
    "stress-ng",
    "util-linux",
    "xfsprogs",
    "zstd",
];

/// What of the packages stays out: what nobody reads in a guest, and what only compilers and linkers need.
const WITHOUT: &[&str] = &[
    "/usr/lib/*.a",
    "/usr/lib/jvm/*/jmods/*",
    "/usr/lib/jvm/*/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
];

/// Size of the disk that the guest sees; the file is sparse.
const SIZE: &str = "6G";

/// The first stage of the guest's init.
const STAGE1: &str = include_str!("../guest/stage1.sh");

/// Unpacks `$1` in `$2`, adds the init `$3` and the module directories `$6…`, and makes the disk `$4` of size `$5`.
const ASSEMBLE: &str = include_str!("../guest/assemble.sh");

/// The image.
pub fn path() -> PathBuf {
    paths::guest().join("root.img")
}

/// Makes the image where it is missing or its inputs changed.
pub fn ensure(apt: &Apt) -> Result<()> {
    fs::create_dir_all(paths::guest())?;
    let tarball = paths::cache().join("root.tar");
    let sources = apt.guest_sources();
    let base_key = step::key((&sources, PACKAGES, WITHOUT));
    step::cached("guest packages", base_key, &tarball, || {
        bootstrap(&sources, &tarball)
    })?;

    let kernels = Series::ALL
        .iter()
        .map(|series| series.unpacked())
        .collect::<Result<Vec<_>>>()?;
    let releases: Vec<&str> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    let image_key = step::key((base_key, &releases, SIZE, STAGE1, ASSEMBLE));
    step::cached("guest image", image_key, &path(), || assemble(&tarball, &kernels))
}

fn bootstrap(sources: &[&str], tarball: &Path) -> Result<()> {
    run::logged(
        "mmdebstrap",
        Command::new("mmdebstrap")
            .args(["--variant=minbase", "--architectures=amd64"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg("--aptopt=APT::Install-Recommends \"false\"")
            .args(
                WITHOUT
                    .iter()
                    .map(|pattern| format!("--dpkgopt=path-exclude={pattern}")),
            )
            .args([apt::RELEASE.as_ref(), tarball.as_os_str()])
            .args(sources),
    )
}

fn assemble(tarball: &Path, kernels: &[Kernel]) -> Result<()> {
    let work = paths::guest().join("root.work");
    let partial = paths::guest().join("root.img.partial");
    let init = paths::cache().join("stage1.sh");
    fs::write(&init, STAGE1)?;
    // The owners of the files are kept: as root directly, else in a user namespace with its own range of ids.
    let mut command = if host::is_root() {
        Command::new("sh")
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--map-auto", "sh"]);
        command
    };
    command
        .args(["-c", ASSEMBLE, "assemble"])
        .arg(tarball)
        .arg(&work)
        .arg(&init)
        .arg(&partial)
        .arg(SIZE);
    command.args(kernels.iter().map(Kernel::modules));
    run::logged("guest-image", &mut command)?;
    fs::rename(&partial, path()).context("cannot put the guest's image in place")
}
