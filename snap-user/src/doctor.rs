//! `freezeframe doctor`: what this host can do, what is missing, and how to get it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;
use snap_common::abi;

use crate::cli::DoctorArgs;
use crate::device::{Device, DeviceError};
use crate::exit::Exit;
use crate::words::{print, print_json};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    /// What was found.
    detail: String,
    /// How to get it, where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Snapshots work, but something else does not.
    Missing,
    /// No snapshot without it.
    Needed,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn lacking(
        name: &'static str,
        state: State,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// Runs the command. The exit code is 0 where snapshots can be taken, 3 or 6 where not.
///
/// # Errors
///
/// When the findings cannot be printed.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let root = rustix::process::geteuid().is_root();
    let findings = [
        kernel(),
        user(root),
        module(&args.device),
        gate(&args.device),
        track(&args.device),
        store(),
        btf(),
        tracing(root),
    ];
    if args.json {
        print_json(&findings)?;
    } else {
        let mut text = String::new();
        for Finding {
            name,
            state,
            detail,
            remedy,
        } in &findings
        {
            let mark = match state {
                State::Ok => "ok",
                State::Missing => "missing",
                State::Needed => "NEEDED",
            };
            text += &format!("{mark:<8} {name:<8} {detail}\n");
            if let Some(remedy) = remedy {
                text += &format!("{:18}-> {remedy}\n", "");
            }
        }
        print(&text)?;
    }
    Ok(
        match findings.iter().find(|finding| finding.state == State::Needed) {
            None => Exit::Ok,
            Some(finding) if finding.name == "user" => Exit::Permission,
            Some(_) => Exit::Module,
        },
    )
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let machine = uname.machine().to_string_lossy().into_owned();
    let supported = ["6.1.", "6.12."].iter().any(|series| release.starts_with(series));
    if machine != "x86_64" {
        return Finding::lacking(
            "kernel",
            State::Needed,
            format!("{release} {machine}"),
            "the module knows x86_64 only",
        );
    }
    if supported {
        Finding::ok("kernel", release)
    } else {
        Finding::lacking(
            "kernel",
            State::Missing,
            format!("{release}: not tested"),
            "tested are 6.1 and 6.12",
        )
    }
}

fn user(root: bool) -> Finding {
    if root {
        Finding::ok("user", "root")
    } else {
        Finding::lacking(
            "user",
            State::Needed,
            "not root",
            "run as root: the device wants CAP_SYS_ADMIN",
        )
    }
}

fn module(device: &Path) -> Finding {
    match Device::open(device).map(|device| device.info()) {
        Ok(Ok(info)) => Finding::ok(
            "module",
            format!(
                "{} (ABI {}), {} snapshots open",
                info.module_version, info.abi_version, info.open_snapshots
            ),
        ),
        Ok(Err(error)) => Finding::lacking("module", State::Needed, error.to_string(), "reload the module"),
        Err(error @ DeviceError::NoModule(_)) => Finding::lacking(
            "module",
            State::Needed,
            error.to_string(),
            "build it with `cargo xtask build` or `make -C kmod` against this kernel's headers, then insmod",
        ),
        // These say what to do themselves.
        Err(error) => Finding {
            name: "module",
            state: State::Needed,
            detail: error.to_string(),
            remedy: None,
        },
    }
}

/// What incremental images need.
fn track(device: &Path) -> Finding {
    match Device::open(device).map(|device| device.info()) {
        Ok(Ok(info)) if info.features & abi::FEATURE_TRACK != 0 => {
            Finding::ok("parent", "images can be incremental (take --parent)")
        }
        Ok(Ok(_)) => Finding::lacking(
            "parent",
            State::Missing,
            "the kernel does not tell what has changed: images are whole, also with --parent",
            "a kernel with CONFIG_MEM_SOFT_DIRTY and ftrace",
        ),
        _ => Finding::ok("parent", "not to be seen without the module"),
    }
}

fn gate(device: &Path) -> Finding {
    let features = Device::open(device).ok().and_then(|device| device.info().ok());
    match features.map(|info| info.features & abi::FEATURE_FAULT_GATE) {
        Some(0) => Finding::lacking(
            "faults",
            State::Missing,
            "another module (a live patch) holds the kernel's page fault handler: with --fs, a take of processes that store into \
             mapped files may fail",
            "unload that, and load ours again",
        ),
        Some(_) => Finding::ok("faults", "page faults can wait for filesystems that freeze"),
        None => Finding::ok("faults", "not to be seen without the module"),
    }
}

fn store() -> Finding {
    let loaded = Path::new("/sys/module/dm_snapshot").exists();
    let loadable = || {
        let modprobe = Command::new("modprobe")
            .args(["-n", "-q", "dm-snapshot"])
            .stderr(Stdio::null())
            .status();
        modprobe.is_ok_and(|status| status.success())
    };
    if loaded || loadable() {
        Finding::ok("dm", "the device mapper has snapshots: --snapblockdev works")
    } else {
        Finding::lacking(
            "dm",
            State::Missing,
            "the device mapper's target `snapshot` is not there: --snapblockdev does not work",
            "install the kernel's module dm-snapshot (CONFIG_DM_SNAPSHOT)",
        )
    }
}

fn btf() -> Finding {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Finding::ok("btf", "the kernel describes its types")
    } else {
        Finding::lacking(
            "btf",
            State::Missing,
            "no /sys/kernel/btf/vmlinux: COW breaks and filesystem freezes are not traced",
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF",
        )
    }
}

fn tracing(root: bool) -> Finding {
    if Path::new("/sys/kernel/tracing/events").exists() || !root {
        Finding::ok("tracefs", "mounted, or not to be seen without root")
    } else {
        Finding::lacking(
            "tracefs",
            State::Missing,
            "/sys/kernel/tracing is not mounted",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        )
    }
}
