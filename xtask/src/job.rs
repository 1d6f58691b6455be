//! A job in a guest: packed into a disk, run as root there, its `/out` brought back.

mod boot;

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::initramfs::{self, Initramfs};
use crate::kernel::{Kernel, Series};
use crate::qemu::{self, Accel, Boot, Disks, Machine, Reset};
use crate::{image, paths};

/// Exit code of `cargo xtask guest` when the guest gave none.
pub const DIED: u8 = 125;

/// Exit code that the guest gives a job during which the kernel complained.
pub const DIRTY: u8 = 124;

const STAGE2: &str = include_str!("../guest/stage2.sh");

/// Size of the disk for the results; the file is sparse.
const OUT_SIZE: u64 = 16 << 30;

/// Size of the disk that the job may do with as it likes; the file is sparse.
const SCRATCH_SIZE: u64 = 8 << 30;

/// A file in the job's directory with the number of times that its guest may boot. Without it: once.
pub const BOOTS: &str = "boots";

/// A file in the job's directory with what `root=` names for a guest whose root is on a layer, `ff-root`, and which boots by way of
/// an initramfs. Without it: the kernel mounts the disk itself.
pub const ROOT: &str = "root";

/// Where the module lies in the guest.
const GUEST_MODULE: &str = "/ff/freezeframe.ko";

/// What to run, in what kind of guest.
pub struct Job {
    /// The directory with `run.sh`.
    pub dir: PathBuf,
    /// The kernel of the guest.
    pub kernel: Series,
    /// Its processors.
    pub smp: u32,
    /// Its memory.
    pub mem_mib: u32,
    /// Idle processors poll for work.
    pub poll: bool,
    /// Which clock it has.
    pub clock: Clock,
    /// The module to load, if any.
    pub module: Option<PathBuf>,
    /// The module's parameters.
    pub module_args: String,
    /// The controller to put on `PATH`, if any.
    pub controller: Option<PathBuf>,
    /// Further files and their paths in the guest.
    pub extra: Vec<(PathBuf, String)>,
    /// Environment variables of the job.
    pub env: Vec<(String, String)>,
    /// When to give up.
    pub timeout: Duration,
    /// Where `/out` goes; emptied first.
    pub out: PathBuf,
    /// Who sees its console.
    pub watched: Watched,
}

/// Who sees a guest's console. Its log is written in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Whoever started us, at once.
    Live,
    /// Nobody: another guest runs beside it.
    Later,
}

/// The guest's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Time as it passes.
    Real,
    /// Instructions executed: repeatable, for measuring.
    Instructions,
}

/// How a job ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `run.sh` ended with this code, or with [`DIRTY`] because the kernel complained.
    Finished(u8),
    /// The guest itself died, for this reason.
    Died(String),
}

impl Job {
    /// A job with the defaults of `cargo xtask guest`.
    pub fn new(dir: PathBuf, kernel: Series) -> Self {
        Self {
            dir,
            kernel,
            smp: 2,
            mem_mib: kernel.mem_mib(),
            poll: false,
            clock: Clock::Real,
            module: None,
            module_args: String::new(),
            controller: None,
            extra: Vec::new(),
            env: Vec::new(),
            timeout: Duration::from_secs(900) * kernel.slowness(),
            out: paths::guest().join("out"),
            watched: Watched::Live,
        }
    }

    /// Boots the guest and runs the job; its console goes to stdout and to a log beside [`Job::out`].
    pub fn run(&self) -> Result<Outcome> {
        if !self.dir.join("run.sh").is_file() {
            bail!(
                "{} has no run.sh; a job is a directory with one",
                self.dir.display()
            );
        }
        let kernel = self.kernel.unpacked()?;
        let accel = match self.clock {
            Clock::Real => qemu::accel(&kernel)?,
            Clock::Instructions => Accel::Icount,
        };
        let layered = self.layered()?;
        empty(&self.out)?;
        let scratch = Scratch::new()?;
        let file = |name| scratch.0.join(name);
        let (input, output, blank) = (file("in.tar"), file("out.tar"), file("scratch.img"));
        self.pack(&kernel, layered.as_ref().map(|(initramfs, _)| initramfs), &input)?;
        File::create(&output)?.set_len(OUT_SIZE)?;
        File::create(&blank)?.set_len(SCRATCH_SIZE)?;

        let root = image::path();
        let machine = Machine {
            kernel: &kernel,
            accel,
            smp: self.smp,
            mem_mib: self.mem_mib,
            poll: self.poll,
            reset: if self.dir.join(BOOTS).is_file() {
                Reset::BootsAgain
            } else {
                Reset::Ends
            },
            boot: match &layered {
                None => Boot::Directly,
                Some((initramfs, root)) => Boot::Initramfs {
                    image: &initramfs.image,
                    root,
                },
            },
            disks: Some(Disks {
                root: &root,
                input: &input,
                output: &output,
                scratch: &blank,
            }),
            tmp: &scratch.0,
        };
        eprintln!("  guest: kernel {} under {}", kernel.release, accel.name());
        let start = Instant::now();
        let ended = self.run_machine(&machine)?;
        let code = unpack(&output, &self.out)?;
        eprintln!("  guest: ended after {:.1} s", start.elapsed().as_secs_f64());
        Ok(code.map_or_else(|| Outcome::Died(self.died(&ended)), Outcome::Finished))
    }

    /// The console's log.
    pub fn console(&self) -> PathBuf {
        if self.out == paths::guest().join("out") {
            return paths::guest().join("console.log");
        }
        let mut name = self.out.clone().into_os_string();
        name.push(".console.log");
        name.into()
    }

    /// The initramfs of a job that wants its root on a layer, made where it is not there yet, and what `root=` names.
    pub fn layered(&self) -> Result<Option<(Initramfs, String)>> {
        let file = self.dir.join(ROOT);
        if !file.is_file() {
            return Ok(None);
        }
        let root = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let Some(controller) = &self.controller else {
            bail!("a guest whose root is on a layer needs the controller");
        };
        let initramfs = initramfs::build(self.kernel, controller)?;
        Ok(Some((initramfs, root.trim().to_owned())))
    }

    fn pack(&self, kernel: &Kernel, initramfs: Option<&Initramfs>, tarball: &Path) -> Result<()> {
        let file = File::create(tarball).with_context(|| format!("cannot create {}", tarball.display()))?;
        let mut tar = tar::Builder::new(file);
        let add = |tar: &mut tar::Builder<File>, from: &Path, to: &str| {
            tar.append_path_with_name(from, to.trim_start_matches('/'))
                .with_context(|| format!("cannot pack {} as {to}", from.display()))
        };
        tar.append_dir_all("job", &self.dir)
            .with_context(|| format!("cannot pack {}", self.dir.display()))?;
        if let Some(module) = &self.module {
            add(&mut tar, module, GUEST_MODULE)?;
        }
        if let Some(controller) = &self.controller {
            add(&mut tar, controller, "ff/bin/freezeframe")?;
        }
        if !self.kernel.in_image() {
            let modules = kernel.modules();
            tar.append_dir_all(format!("usr/lib/modules/{}", kernel.release), &modules)
                .with_context(|| format!("cannot pack {}", modules.display()))?;
        }
        if let Some(initramfs) = initramfs {
            add(&mut tar, &initramfs.layers, "etc/freezeframe/layers")?;
        }
        for (from, to) in &self.extra {
            add(&mut tar, from, to)?;
        }
        append_text(&mut tar, "ff/stage2", STAGE2)?;
        append_text(&mut tar, "ff/env", &self.environment())?;
        tar.finish()
            .with_context(|| format!("cannot write {}", tarball.display()))
    }

    fn environment(&self) -> String {
        let module = if self.module.is_some() { GUEST_MODULE } else { "" };
        let slowness = self.kernel.slowness().to_string();
        let fixed = [
            ("FF_KERNEL", self.kernel.name()),
            ("FF_SLOWNESS", slowness.as_str()),
            ("FF_MODULE", module),
            ("FF_MODULE_ARGS", self.module_args.as_str()),
        ];
        let own = self
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        fixed
            .into_iter()
            .chain(own)
            .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
            .collect()
    }
}

/// A directory of this run alone, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        remove_stale()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = paths::guest().join(format!("run-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self(dir))
    }
}

/// Removes what runs left behind that were killed.
fn remove_stale() -> Result<()> {
    for entry in fs::read_dir(paths::guest())? {
        let entry = entry?;
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix("run-"));
        let process = process.and_then(|process| process.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another run may be removing the same one.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind costs space only.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

fn append_text(tar: &mut tar::Builder<File>, path: &str, text: &str) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, path, text.as_bytes())
        .with_context(|| format!("cannot pack {path}"))
}

/// Unpacks the guest's `/out` and returns the exit code that it wrote, if it came that far.
fn unpack(tarball: &Path, out: &Path) -> Result<Option<u8>> {
    let file = File::open(tarball).with_context(|| format!("cannot read {}", tarball.display()))?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut code = None;
    for entry in archive.entries()? {
        let mut entry = entry.context("the guest's results are cut off (is /out too large?)")?;
        let path = entry.path()?.into_owned();
        if path == Path::new("ff/exit-code") {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            code = text.trim().parse().ok();
        } else if let Ok(below) = path.strip_prefix("out")
            && below != Path::new("")
        {
            let to = out.join(below);
            entry
                .unpack(&to)
                .with_context(|| format!("cannot write {}", to.display()))?;
        }
    }
    Ok(code)
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_shell() {
        assert_eq!(quoted("a 'b' $c"), r"'a '\''b'\'' $c'");
    }

    #[test]
    fn no_results_mean_no_code() {
        let dir = std::env::temp_dir().join(format!("xtask-unpack-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let blank = dir.join("out.tar");
        File::create(&blank).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(unpack(&blank, &dir).unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
