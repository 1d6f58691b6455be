//! A guest from its start to its end.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Job, Watched};
use crate::paths;
use crate::qemu::{self, Machine};

/// What has to be left of the host's filesystem, in bytes, lest a guest whose disk cannot grow stands still until its deadline.
const ROOM: u64 = 512 << 20;

/// What the guest says when it has booted.
const BEGINS: &[u8] = b"guest: begins";

/// How long that may take, where the kernel is as fast as a supported one: seconds, or half a minute on a busy machine.
const BOOT: Duration = Duration::from_secs(90);

/// How often a guest that does not come so far is started. QEMU's TCG (10.0.2) now and then loses the timer of a second processor
/// in the kernel's first second, and the guest hangs there for good.
const STARTS: u32 = 3;

/// How a machine ended.
pub enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// It was killed at the deadline.
    Late,
    /// It was killed because its disks had hardly room left to grow.
    NoRoom,
    /// It was killed because it did not boot.
    Hung,
}

impl Job {
    /// Starts the machine, until it boots, and runs it to its end.
    pub(super) fn run_machine(&self, machine: &Machine) -> Result<Ended> {
        for _ in 1..STARTS {
            match self.start(machine)? {
                Ended::Hung => eprintln!(
                    "  guest: it has not booted within {} s, and is started once more",
                    self.boot_time().as_secs()
                ),
                ended => return Ok(ended),
            }
        }
        self.start(machine)
    }

    /// Why a machine that ended so has left no exit code.
    pub(super) fn died(&self, ended: &Ended) -> String {
        match ended {
            Ended::Late => format!("it did not end within {} s", self.timeout.as_secs()),
            Ended::NoRoom => format!(
                "it was stopped, for the filesystem of {} has less than {} MiB left, and QEMU would have halted it \
                 without a word; make room, or run fewer guests at once (--jobs)",
                paths::guest().display(),
                ROOM >> 20
            ),
            Ended::Hung => format!(
                "it did not boot within {} s, {STARTS} times",
                self.boot_time().as_secs()
            ),
            Ended::Itself(status) => {
                format!("it stopped before the job had ended (a panic?); QEMU: {status}")
            }
        }
    }

    fn boot_time(&self) -> Duration {
        BOOT * self.kernel.slowness()
    }

    fn start(&self, machine: &Machine) -> Result<Ended> {
        let console = self.console();
        let failed = || format!("cannot write {}", console.display());
        let log = File::create(&console).with_context(failed)?;
        let mut child = machine
            .command()?
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64 (by util-linux' setpriv)")?;
        let Some(pipe) = child.stdout.take() else {
            bail!("QEMU has no console");
        };
        let booted = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let copier = scope.spawn(|| copy_console(pipe, log, self.watched, &booted));
            // Without a machine, the copier ends, too.
            let ended = self.wait(&mut child, machine.tmp, &booted);
            match copier.join() {
                Ok(result) => result.with_context(failed)?,
                Err(_) => bail!("the thread that reads the console panicked"),
            }
            ended
        })
    }

    /// Waits for the machine's end, or makes it end.
    fn wait(&self, child: &mut Child, tmp: &Path, booted: &AtomicBool) -> Result<Ended> {
        let started = Instant::now();
        let why = loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Ok(Ended::Itself(status)),
                Err(error) => break Err(error.into()),
            }
            if started.elapsed() > self.timeout {
                break Ok(Ended::Late);
            }
            if started.elapsed() > self.boot_time() && !booted.load(Ordering::Relaxed) {
                break Ok(Ended::Hung);
            }
            match room(tmp) {
                Ok(bytes) if bytes < ROOM => break Ok(Ended::NoRoom),
                Ok(_) => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => break Err(error),
            }
        };
        qemu::stop(child);
        why
    }
}

/// Copies what the guest says to the log, and to whoever watches; says when it has booted.
fn copy_console(
    mut console: impl Read,
    mut log: File,
    watched: Watched,
    booted: &AtomicBool,
) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let mut start = Vec::new();
    loop {
        let count = console.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let text: Vec<u8> = buffer[..count]
            .iter()
            .copied()
            .filter(|byte| *byte != b'\r')
            .collect();
        log.write_all(&text)?;
        if !booted.load(Ordering::Relaxed) {
            start.extend_from_slice(&text);
            let begins = start.windows(BEGINS.len()).any(|window| window == BEGINS);
            booted.store(begins, Ordering::Relaxed);
        }
        if watched == Watched::Live {
            // A reader that went away must not end the guest.
            let _ = std::io::stdout()
                .write_all(&text)
                .and_then(|()| std::io::stdout().flush());
        }
    }
}

/// Bytes that are left to us in the filesystem of a directory.
fn room(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}
