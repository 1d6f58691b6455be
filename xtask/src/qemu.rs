//! The command line of QEMU: every guest is started from here.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::kernel::Kernel;
use crate::{emulator, paths, run, step};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// Emulation.
    Tcg,
    /// Emulation with a clock that counts instructions: slow, one processor, repeatable.
    Icount,
}

impl Accel {
    /// The name, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
            Self::Icount => "TCG with an instruction clock",
        }
    }
}

/// What a machine does when its guest resets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// It ends.
    Ends,
    /// It boots again, its disks as they are.
    BootsAgain,
}

/// How a guest comes to its root.
#[derive(Clone, Copy, Debug)]
pub enum Boot<'a> {
    /// The kernel mounts the disk itself.
    Directly,
    /// An initramfs does.
    Initramfs {
        /// The file.
        image: &'a Path,
        /// What `root=` names.
        root: &'a str,
    },
}

/// A machine to start.
pub struct Machine<'a> {
    /// The kernel it boots.
    pub kernel: &'a Kernel,
    /// What executes it.
    pub accel: Accel,
    /// Its processors; one with [`Accel::Icount`].
    pub smp: u32,
    /// Its memory.
    pub mem_mib: u32,
    /// Idle processors poll for work. One that halts is woken by the host, which takes longer than what is measured.
    pub poll: bool,
    /// What a reset does.
    pub reset: Reset,
    /// How it comes to its root.
    pub boot: Boot<'a>,
    /// Its disks.
    pub disks: Option<Disks<'a>>,
    /// Where QEMU keeps what the guest writes to its root.
    pub tmp: &'a Path,
}

/// The disks of a machine.
pub struct Disks<'a> {
    /// The root; what is written to it is thrown away.
    pub root: &'a Path,
    /// The job, as a tar.
    pub input: &'a Path,
    /// Where the guest leaves its tar of results.
    pub output: &'a Path,
    /// An empty one, for the job to do with as it likes.
    pub scratch: &'a Path,
}

/// The environment variable that overrides the probe: `kvm` or `tcg`.
const ACCEL_ENV: &str = "FREEZEFRAME_ACCEL";

/// The processor that is emulated. It does not claim that its string instructions are fast: the kernel and libc would copy by the
/// byte where they believe that, and TCG emulates each byte. Copying 200 MiB in a tmpfs takes 0.6 times as long (three boots
/// with and without, in turn, on an idle machine). Nor has it AVX2: for the 16 bytes of a `vinsertf128` QEMU (10.0.2; mended since) reads 32, and
/// what hashes the last bytes before an unmapped page by AVX2 (BLAKE3, of a mapped piece of an image) is killed by SIGSEGV.
const EMULATED: &str = "max,erms=off,fsrm=off,avx2=off";

/// How long a guest under KVM may take to find that it has no disk.
const PROBE: Duration = Duration::from_secs(20);

impl Machine<'_> {
    /// The command that starts it, with its console on stdout; it dies with us.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(emulator::program()?);
        command.args(["-M", "q35", "-nodefaults"]);
        command.args(["-no-user-config", "-display", "none", "-serial", "stdio"]);
        if self.reset == Reset::Ends {
            command.arg("-no-reboot");
        }
        match self.accel {
            Accel::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", EMULATED]),
            Accel::Icount => command
                .args(["-accel", "tcg,thread=single", "-cpu", "max"])
                .args(["-icount", "shift=0,sleep=off"]),
        };
        let smp = if self.accel == Accel::Icount { 1 } else { self.smp };
        command.args(["-smp", &smp.to_string(), "-m", &self.mem_mib.to_string()]);
        command.arg("-kernel").arg(self.kernel.image());
        if let Boot::Initramfs { image, .. } = self.boot {
            command.arg("-initrd").arg(image);
        }
        command.args(["-append", &self.append()]);
        if let Some(disks) = &self.disks {
            let root = format!(
                "file={},format=raw,snapshot=on,cache=unsafe",
                disks.root.display()
            );
            let input = format!("file={},format=raw,readonly=on", disks.input.display());
            let output = format!("file={},format=raw,cache=unsafe", disks.output.display());
            let scratch = format!(
                "file={},format=raw,cache=unsafe,discard=unmap",
                disks.scratch.display()
            );
            // Exactly one NVMe disk: with two, their names depend on the order of probing.
            for (id, drive, device) in [
                ("root", root, "nvme"),
                ("in", input, "virtio-blk-pci"),
                ("out", output, "virtio-blk-pci"),
                ("scratch", scratch, "virtio-blk-pci"),
            ] {
                command.args(["-drive", &format!("if=none,id={id},{drive}")]);
                command.args(["-device", &format!("{device},drive={id},serial={id}")]);
            }
        }
        command.env("TMPDIR", self.tmp).stdin(Stdio::null());
        Ok(command)
    }

    fn append(&self) -> String {
        let mut append = String::from(
            "console=ttyS0 quiet panic=-1 oops=panic mitigations=off nokaslr log_buf_len=16M \
             rcupdate.rcu_cpu_stall_timeout=60",
        );
        if self.disks.is_some() {
            let root = match self.boot {
                Boot::Directly => "/dev/nvme0n1",
                Boot::Initramfs { root, .. } => root,
            };
            append.push_str(&format!(" root={root} rw init=/sbin/vm-init"));
        }
        if self.poll {
            append.push_str(" idle=poll");
        }
        append.push_str(self.kernel.parameters());
        append
    }
}

/// What guests run on here: KVM only where a guest has come up under it, which is tried once and remembered.
pub fn accel(kernel: &Kernel) -> Result<Accel> {
    match std::env::var(ACCEL_ENV).as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        Ok(other) => bail!("{ACCEL_ENV} is `{other}`; it takes `kvm` or `tcg`"),
        Err(_) => {}
    }
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accel::Tcg);
    }
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let answer = paths::cache().join("kvm");
    let key = step::key((
        host,
        run::output(Command::new(emulator::program()?).arg("--version"))?,
    ));
    step::cached("probe KVM", key, &answer, || {
        let text = match probe(kernel) {
            Ok(()) => "works".to_owned(),
            Err(error) => format!("unusable: {error:#}"),
        };
        eprintln!("  /dev/kvm: {text}");
        fs::write(&answer, text).with_context(|| format!("cannot write {}", answer.display()))
    })?;
    Ok(if fs::read_to_string(&answer)? == "works" {
        Accel::Kvm
    } else {
        Accel::Tcg
    })
}

/// Boots `kernel` without a disk under KVM: it works when the kernel says in time that it found no root.
fn probe(kernel: &Kernel) -> Result<()> {
    let tmp = paths::cache();
    let machine = Machine {
        kernel,
        accel: Accel::Kvm,
        smp: 1,
        mem_mib: 512,
        poll: false,
        reset: Reset::Ends,
        boot: Boot::Directly,
        disks: None,
        tmp: &tmp,
    };
    fs::create_dir_all(paths::logs())?;
    let log = paths::logs().join("kvm-probe.log");
    let mut child = machine
        .command()?
        .stdout(fs::File::create(&log)?)
        .stderr(Stdio::null())
        .spawn()?;
    let said = || {
        fs::read(&log).is_ok_and(|text| String::from_utf8_lossy(&text).contains("Unable to mount root fs"))
    };
    let start = Instant::now();
    while start.elapsed() < PROBE {
        let ended = child.try_wait()?.is_some();
        if said() {
            stop(&mut child);
            return Ok(());
        }
        if ended {
            bail!("QEMU ended before the guest's kernel said anything");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    stop(&mut child);
    bail!("the guest's kernel said nothing within {} s", PROBE.as_secs())
}

/// Kills a QEMU and takes its exit status.
pub fn stop(child: &mut Child) {
    // Both fail only when it has already ended.
    let _ = child.kill();
    let _ = child.wait();
}
