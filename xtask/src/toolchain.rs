//! The toolchain that builds BPF objects: the choice is made here, and nowhere else.
//!
//! `-Zbuild-std=core` needs the sources of the standard library. They come with rustup's nightly, or with
//! Debian's `rust-web-src`, whose stable compiler takes nightly flags by `RUSTC_BOOTSTRAP`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};

use crate::{cargo_tool, paths, run, step};

/// A way to build BPF objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// rustup's nightly with its `rust-src` component.
    Rustup,
    /// Debian's compiler with its packaged sources.
    Debian,
}

/// The environment variable that overrides the choice.
const TOOLCHAIN_ENV: &str = "FREEZEFRAME_BPF_TOOLCHAIN";

/// The `bpf-linker` that matches both compilers.
const LINKER_VERSION: &str = "0.13.0";

/// The target of BPF objects.
pub const TARGET: &str = "bpfel-unknown-none";

/// The LLVM of Debian's `rustc-web`.
const DEBIAN_LLVM: &str = "22";

const RUSTFLAGS: &str =
    "-C linker=bpf-linker -C debuginfo=2 -C link-arg=--btf --cfg bpf_target_arch=\"x86_64\"";

static CHOICE: OnceLock<Toolchain> = OnceLock::new();

/// Chooses the toolchain and says which, and why.
pub fn choose() -> Result<Toolchain> {
    if let Some(choice) = CHOICE.get() {
        return Ok(*choice);
    }
    let debian = run::on_path("apt-get");
    let sources = rustup_has_sources();
    let (choice, why) = match std::env::var(TOOLCHAIN_ENV).as_deref() {
        Ok("rustup") if sources => (Toolchain::Rustup, format!("{TOOLCHAIN_ENV} says so")),
        Ok("debian") => (Toolchain::Debian, format!("{TOOLCHAIN_ENV} says so")),
        Err(_) if sources && (!debian || rustup_llvm_is_packaged()) => {
            (Toolchain::Rustup, "rustup has a nightly with rust-src".to_owned())
        }
        Err(_) if sources => (
            Toolchain::Debian,
            "Debian has no LLVM that matches rustup's nightly".to_owned(),
        ),
        Err(_) if debian => (
            Toolchain::Debian,
            "rustup has no nightly with rust-src".to_owned(),
        ),
        Ok("rustup") | Err(_) => bail!(
            "rustup has no nightly with rust-src, so it cannot build BPF objects; run: \
             rustup toolchain install nightly --component rust-src"
        ),
        Ok(other) => bail!("{TOOLCHAIN_ENV} is `{other}`; it takes `rustup` or `debian`"),
    };
    eprintln!(
        "  BPF toolchain: {} ({why}; {TOOLCHAIN_ENV}=rustup|debian overrides)",
        choice.name()
    );
    Ok(*CHOICE.get_or_init(|| choice))
}

impl Toolchain {
    /// The name that [`TOOLCHAIN_ENV`] takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }

    /// The Debian packages that it needs.
    pub fn packages(self) -> Result<Vec<String>> {
        let mut packages = match self {
            Self::Rustup => Vec::new(),
            Self::Debian => ["cargo-web", "rustc-web", "rust-web-src"]
                .map(str::to_owned)
                .into(),
        };
        packages.push(format!("llvm-{}-dev", self.llvm()?));
        packages.extend(["libzstd-dev", "zlib1g-dev"].map(str::to_owned));
        Ok(packages)
    }

    /// The major version of the compiler's LLVM: `bpf-linker` must be built against the same.
    fn llvm(self) -> Result<String> {
        // Debian's compiler is installed together with its LLVM, so it cannot be asked before.
        if self == Self::Debian {
            return Ok(DEBIAN_LLVM.to_owned());
        }
        let text = self.version()?;
        let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        match version.and_then(|version| version.split('.').next()) {
            Some(major) => Ok(major.to_owned()),
            None => bail!("`rustc +nightly -vV` names no LLVM version"),
        }
    }

    /// The compiler's own description: a part of the key of whatever it builds.
    pub fn version(self) -> Result<String> {
        run::output(self.command("rustc").arg("-vV"))
    }

    /// Builds `bpf-linker` against the LLVM that matches the compiler.
    pub fn ensure_linker(self) -> Result<()> {
        let linker = paths::tools().join("bin/bpf-linker");
        let key = step::key((self.name(), LINKER_VERSION, self.version()?));
        step::cached("bpf-linker", key, &linker, || {
            let mut cargo = self.command("cargo");
            cargo.args([
                "install",
                "bpf-linker",
                "--locked",
                "--force",
                "--version",
                LINKER_VERSION,
            ]);
            let llvm = self.llvm()?;
            cargo.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
            // Where Debian has it; elsewhere the linker's build finds it by the `llvm-config` on PATH.
            let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
            if prefix.is_dir() {
                cargo.env("LLVM_PREFIX", prefix);
            }
            cargo_tool::install("bpf-linker", &mut cargo)
        })
    }

    /// A cargo that builds for [`TARGET`]; the caller adds what to build.
    pub fn build(self) -> Command {
        let mut cargo = self.command("cargo");
        cargo.args(["build", "--release", "-Zbuild-std=core", "--target", TARGET]);
        cargo.env("RUSTFLAGS", RUSTFLAGS);
        cargo
    }

    /// `cargo` or `rustc` of this toolchain, free of what the cargo that runs us has set.
    fn command(self, program: &str) -> Command {
        let mut command = match self {
            Self::Rustup => {
                let mut command = Command::new(program);
                command.arg("+nightly");
                command
            }
            Self::Debian => Command::new(Path::new("/usr/bin").join(program)),
        };
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let ours = text.starts_with("RUSTUP_TOOLCHAIN") || text.starts_with("RUST_RECURSION");
            let cargos = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST");
            if ours
                || cargos
                || matches!(
                    &*text,
                    "CARGO" | "RUSTC" | "RUSTDOC" | "RUSTFLAGS" | "LD_LIBRARY_PATH"
                )
            {
                command.env_remove(&name);
            }
        }
        let mut path = vec![paths::tools().join("bin")];
        if self == Self::Debian {
            path.push(PathBuf::from("/usr/bin"));
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        }
        command.env("PATH", prepend(path));
        command
    }
}

fn prepend(mut first: Vec<PathBuf>) -> OsString {
    if let Some(path) = std::env::var_os("PATH") {
        first.extend(std::env::split_paths(&path));
    }
    std::env::join_paths(first).unwrap_or_default()
}

fn rustup_has_sources() -> bool {
    let sysroot = run::output(Toolchain::Rustup.command("rustc").args(["--print", "sysroot"]));
    sysroot.is_ok_and(|dir| {
        Path::new(dir.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    })
}

/// Whether the LLVM that `bpf-linker` needs for rustup's nightly is a package here.
fn rustup_llvm_is_packaged() -> bool {
    Toolchain::Rustup.llvm().is_ok_and(|major| {
        run::output(Command::new("apt-cache").args(["show", &format!("llvm-{major}-dev")])).is_ok()
    })
}
