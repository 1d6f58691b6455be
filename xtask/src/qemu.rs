//! The one place that knows how to start QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::image;
use crate::kernel::Unpacked;
use crate::paths::Paths;

/// Overrides the choice between `kvm` and `tcg`.
pub const ACCEL_ENV: &str = "FREEZEFRAME_ACCEL";

/// How long a kernel may take to say hello under KVM before we call it hung.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// What executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor itself.
    Kvm,
    /// Emulation, one thread for each virtual processor.
    Tcg,
    /// Emulation with a clock that counts instructions: slow, but repeatable.
    Icount,
}

impl Accel {
    fn arguments(self) -> Vec<&'static str> {
        // cmpxchg16b corrupts the flags under QEMU 7.2's emulation and panics the guest.
        match self {
            Self::Kvm => vec!["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => vec!["-accel", "tcg,thread=multi", "-cpu", "max,-cx16"],
            Self::Icount => {
                vec!["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-cpu", "max,-cx16"]
            }
        }
    }
}

/// A machine to start.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The kernel to boot.
    pub kernel: &'a Unpacked,
    /// The root file system; what the guest writes to it is thrown away.
    pub image: &'a Path,
    /// What executes it.
    pub accel: Accel,
    /// How many processors.
    pub smp: u32,
    /// Memory in MiB.
    pub mem: u32,
    /// More words for the kernel's command line.
    pub append: &'a str,
    /// The job's tar and the file that takes the result.
    pub disks: Option<(PathBuf, PathBuf)>,
    /// A directory for temporary files.
    pub scratch: &'a Path,
}

impl Machine<'_> {
    /// The command that runs it, with the console on its standard output. It dies with us.
    pub fn command(&self) -> Command {
        let mut cmd = Command::new("setpriv");
        cmd.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-M", "q35"])
            .args(self.accel.arguments())
            .args(["-smp", &self.smp.to_string(), "-m", &self.mem.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel.vmlinuz())
            .arg("-append")
            .arg(format!(
                "root=/dev/nvme0n1 rw init={} console=ttyS0 quiet panic=-1 oops=panic mitigations=off nokaslr \
                 log_buf_len=8M rcupdate.rcu_cpu_stall_timeout=120 {}",
                image::INIT,
                self.append
            ))
            .arg("-drive")
            .arg(format!("if=none,id=r,file={},format=raw,snapshot=on,cache=unsafe", comma(self.image)))
            .args(["-device", "nvme,drive=r,serial=root"]);
        if let Some((job, out)) = &self.disks {
            cmd.arg("-drive")
                .arg(format!("if=none,id=i,file={},format=raw,readonly=on", comma(job)))
                .args(["-device", "virtio-blk-pci,drive=i,serial=in"])
                .arg("-drive")
                .arg(format!("if=none,id=o,file={},format=raw,cache=unsafe", comma(out)))
                .args(["-device", "virtio-blk-pci,drive=o,serial=out"]);
        }
        // QEMU keeps what the guest writes to its root in a temporary file.
        cmd.env("TMPDIR", self.scratch).stdin(Stdio::null());
        cmd
    }
}

/// QEMU's option syntax wants commas doubled.
fn comma(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// KVM where it works, else emulation; found out once by booting, and remembered.
pub fn choose(paths: &Paths, kernel: &Unpacked, image: &Path) -> Result<Accel> {
    match std::env::var(ACCEL_ENV).as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        Ok(other) => anyhow::bail!("{ACCEL_ENV}={other}: it is either kvm or tcg"),
        Err(_) => {}
    }
    let answer = paths.cache("accel");
    match fs::read_to_string(&answer).as_deref().map(str::trim) {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        _ => {}
    }
    let works = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
        && probe(&Machine {
            kernel,
            image,
            accel: Accel::Kvm,
            smp: 1,
            mem: 512,
            append: "ff.probe",
            disks: None,
            scratch: &paths.cache(""),
        })?;
    let (accel, name) = if works { (Accel::Kvm, "kvm") } else { (Accel::Tcg, "tcg") };
    eprintln!("xtask: guests run under {name} (remembered in {}; {ACCEL_ENV} overrides it)", answer.display());
    fs::write(&answer, name).with_context(|| format!("cannot write {}", answer.display()))?;
    Ok(accel)
}

/// Boots once and waits for the sign of life that the guest's init prints for `ff.probe`.
fn probe(machine: &Machine<'_>) -> Result<bool> {
    eprintln!("xtask: trying KVM (at most {} s) …", PROBE_TIMEOUT.as_secs());
    let log = machine.scratch.join("kvm-probe.log");
    let mut child = machine
        .command()
        .stdout(fs::File::create(&log)?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64")?;
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut alive = false;
    while !alive && Instant::now() < deadline && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(100));
        alive = fs::read(&log).is_ok_and(|text| String::from_utf8_lossy(&text).contains("freezeframe-probe-ok"));
    }
    child.kill()?;
    child.wait()?;
    Ok(alive)
}
