//! The run of a benchmark in a guest: its job, and the samples that it leaves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::guest;
use crate::job::Job;
use crate::kernel::Series;
use crate::module::{self, Variant};
use crate::setup::{self, Need};
use crate::{build, criu, paths, step, suite};

/// What the guest leaves.
const SAMPLES: &str = "samples.jsonl";

/// A benchmark.
pub struct Frame {
    /// Its directory, its results', and its program in the guest have this in their names.
    pub name: &'static str,
    /// What else of `guest-tests` it runs.
    pub programs: &'static [&'static str],
    /// What the program gets as arguments, in the words of a shell.
    pub arguments: &'static str,
    /// Whether criu is measured beside it.
    pub criu: bool,
}

impl Frame {
    /// Where a run leaves its results.
    pub fn results(&self, kernel: Series, suffix: &str) -> PathBuf {
        paths::guest().join(format!("bench-{}-{}{suffix}", self.name, kernel.name()))
    }

    /// Measures; `settle` may say more of the job. Returns the guest's exit code.
    pub fn measure(
        &self,
        kernel: Series,
        rounds: u32,
        out: &Path,
        settle: impl FnOnce(&mut Job),
    ) -> Result<u8> {
        if rounds == 0 {
            bail!("--rounds 0 measures nothing");
        }
        let dir = paths::guest().join(format!("bench-{}", self.name));
        let mut job = Job::new(dir.clone(), kernel);
        {
            let _lock = step::lock()?;
            let needs = [Need::Guest, Need::Bpf, Need::Criu];
            setup::ensure(&needs[..needs.len() - usize::from(!self.criu)])?;
            build::controller()?;
            job.controller = Some(paths::controller());
            job.module = Some(module::build(kernel, Variant::Release)?);
            self.pack(&dir)?;
        }
        job.env.push(("FF_BENCH_ROUNDS".to_owned(), rounds.to_string()));
        job.out = out.to_owned();
        settle(&mut job);
        Ok(guest::report(&job, &job.run()?))
    }

    /// Makes the job's directory.
    fn pack(&self, dir: &Path) -> Result<()> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir.join("bin"))?;
        let program = format!("bench_{}", self.name);
        for (name, executable) in suite::programs()? {
            if name == program || self.programs.contains(&name.as_str()) {
                copy(&executable, &dir.join("bin").join(name))?;
            }
        }
        if self.criu && criu::path().exists() {
            copy(&criu::path(), &dir.join("criu.tar"))?;
        }
        let run = format!(
            "#!/bin/sh\nexport PATH=\"$PWD/bin:$PATH\"\nexec {program} {}\n",
            self.arguments
        );
        Ok(fs::write(dir.join("run.sh"), run)?)
    }
}

/// The samples that a run left, and where.
pub fn samples<T>(out: &Path, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let path = out.join(SAMPLES);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; run without --again", path.display()))?;
    parse(&text).with_context(|| format!("cannot use {}", path.display()))
}

/// Writes a document.
pub fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", paths::from_here(path).display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
