//! The guest's disk image: a small Debian that boots directly, with the modules of every supported kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::{self, PrivateApt};
use crate::kernel::Unpacked;
use crate::paths::Paths;
use crate::run;
use crate::stamp::{self, Inputs};

/// The program that the kernel starts, inside the image.
pub const INIT: &str = "/sbin/vm-init";

const STUB_INIT: &str = include_str!("guest/stub-init.sh");

/// How large the root file system is; the file is sparse.
const SIZE: &str = "6G";

/// What the guest contains beyond a minimal Debian.
const PACKAGES: &[&str] = &[
    "age",
    "btrfs-progs",
    "ca-certificates",
    "curl",
    "dmsetup",
    "e2fsprogs",
    "gdb",
    "iproute2",
    "jq",
    "kmod",
    "procps",
    "prometheus",
    "psmisc",
    "python3-minimal",
    "redis-server",
    "redis-tools",
    "socat",
    "strace",
    "stress-ng",
    "util-linux",
    "xfsprogs",
    "xz-utils",
    "zstd",
];

/// Builds the image, unless it is there with the same contents.
pub fn prepare(paths: &Paths, kernels: &[Unpacked]) -> Result<PathBuf> {
    let image = paths.cache("guest/root.img");
    let mut inputs = Inputs::new().bytes("image-1").bytes(STUB_INIT).bytes(SIZE).bytes(PACKAGES.join(" "));
    for kernel in kernels {
        inputs = inputs.bytes(kernel.release());
    }
    stamp::step(paths, "guest image", &inputs, &image, || build(paths, kernels, &image))?;
    Ok(image)
}

fn build(paths: &Paths, kernels: &[Unpacked], image: &Path) -> Result<()> {
    let apt = PrivateApt::prepare(paths)?;
    let dir = image.parent().context("the image has no directory")?;
    fs::create_dir_all(dir)?;
    let stub = dir.join("vm-init");
    fs::write(&stub, STUB_INIT)?;

    let mut cmd = Command::new("mmdebstrap");
    // Services must not be started, documentation is not read, and lists are not needed in a guest.
    cmd.args(["--variant=minbase", "--format=null", "--quiet"])
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg(format!("--include={}", PACKAGES.join(",")));
    for kernel in kernels {
        let modules = kernel.modules().join(kernel.release());
        cmd.arg("--customize-hook=mkdir -p \"$1/lib/modules\"");
        cmd.arg(format!("--customize-hook=copy-in '{}' /lib/modules", modules.display()));
    }
    cmd.arg(format!("--customize-hook=upload '{}' {INIT}", stub.display()));
    cmd.arg(format!("--customize-hook=chmod 755 \"$1{INIT}\""));
    cmd.arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*");
    // Made inside, where the files have their right owners also when we are not root, and then brought out.
    cmd.arg(format!(
        "--customize-hook=truncate -s {SIZE} \"$1.img\" && \
         mkfs.ext4 -q -F -O ^has_journal -d \"$1\" \"$1.img\" && mv \"$1.img\" \"$1/root.img\""
    ));
    cmd.arg(format!("--customize-hook=download /root.img '{}'", image.display()));
    cmd.args([apt::RELEASE, "-"]).arg(apt.sources_file());
    run::run_quietly(&mut cmd)
}
