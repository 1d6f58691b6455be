//! Suites: test binaries and jobs, each in a guest of its own, counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest;
use crate::job::{self, Job};
use crate::kernel::Series;
use crate::module::{self, Variant};
use crate::{build, paths, run};

/// Something that runs in a guest and passes or fails.
pub struct Suite {
    /// What `--only` matches.
    pub name: String,
    /// The job's directory.
    dir: PathBuf,
    /// The module that it wants.
    variant: Variant,
}

/// A suite whose name ends like this may reset its guest, and is run again when that has booted.
const RESETS: &str = "_reset";

/// How many times such a suite's guest may boot.
const BOOTS: u32 = 500;

/// A suite with this word in its name runs in a guest whose root is on a layer.
const ON_A_LAYER: &str = "root";

/// How to run the suites.
pub struct Settings {
    /// Environment variables for every job.
    pub env: Vec<(String, String)>,
    /// Arguments for libtest.
    pub libtest: Vec<String>,
    /// When a suite has failed by its length alone, where the kernel is as fast as a supported one.
    pub timeout: Duration,
}

/// Passed and failed so far.
#[derive(Default)]
pub struct Tally {
    passed: u32,
    failed: Vec<String>,
}

impl Tally {
    /// Counts one suite and says how it went.
    pub fn count(&mut self, name: &str, passed: Result<()>, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        match passed {
            Ok(()) => {
                self.passed += 1;
                println!("suite {name}: passed ({seconds:.1} s)");
            }
            Err(error) => {
                println!("suite {name}: FAILED ({seconds:.1} s): {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Prints the sum; whether nothing failed.
    pub fn finish(&self) -> bool {
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        self.failed.is_empty()
    }
}

/// The programs of `guest-tests`, built, each with its name.
pub fn programs() -> Result<Vec<(String, PathBuf)>> {
    executables(
        build::cargo().args(["build", "--package", "guest-tests", "--release", "--bins"]),
        "bin",
    )
}

/// Every suite there is: the test binaries of `guest-tests`, built, and the jobs below it.
pub fn all() -> Result<Vec<Suite>> {
    let bins = programs()?;
    let tests = executables(
        build::cargo().args([
            "test",
            "--package",
            "guest-tests",
            "--release",
            "--no-run",
            "--test",
            "*",
        ]),
        "test",
    )?;
    let mut suites = Vec::new();
    for (name, executable) in tests {
        let dir = paths::guest().join("suites").join(&name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir.join("bin"))?;
        for (bin, executable) in &bins {
            fs::copy(executable, dir.join("bin").join(bin))?;
        }
        fs::copy(&executable, dir.join("suite"))?;
        fs::write(
            dir.join("run.sh"),
            "#!/bin/sh\nexport PATH=\"$PWD/bin:$PATH\"\n\
             eval exec ./suite --test-threads=1 --color=never \"$FF_LIBTEST\"\n",
        )?;
        if name.ends_with(RESETS) {
            fs::write(dir.join(job::BOOTS), BOOTS.to_string())?;
        }
        if name.split('_').any(|word| word == ON_A_LAYER) {
            fs::write(dir.join(job::ROOT), "/dev/mapper/ff-root")?;
        }
        suites.push(Suite {
            name,
            dir,
            variant: Variant::Test,
        });
    }
    let jobs = paths::root().join("guest-tests/jobs");
    if jobs.is_dir() {
        for entry in fs::read_dir(&jobs)? {
            let dir = entry?.path();
            if dir.join("run.sh").is_file() {
                let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                suites.push(Suite {
                    name,
                    dir,
                    variant: Variant::Release,
                });
            }
        }
    }
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

/// Runs `suites` on each of `kernels` and counts them.
pub fn run(suites: &[Suite], kernels: &[Series], settings: &Settings, tally: &mut Tally) -> Result<()> {
    for series in kernels {
        for suite in suites {
            let name = format!("{} on {}", suite.name, series.name());
            println!("suite {name}");
            let started = Instant::now();
            let mut job = Job::new(suite.dir.clone(), *series);
            job.module = Some(module::build(*series, suite.variant)?);
            job.controller = Some(paths::controller());
            job.env.clone_from(&settings.env);
            job.env
                .push(("FF_LIBTEST".to_owned(), settings.libtest.join(" ")));
            job.timeout = settings.timeout * series.slowness();
            job.out = paths::guest()
                .join("results")
                .join(format!("{}-{}", series.name(), suite.name));
            tally.count(&name, one(&job), started);
        }
    }
    Ok(())
}

fn one(job: &Job) -> Result<()> {
    match guest::report(job, &job.run()?) {
        0 => Ok(()),
        code => bail!("exit code {code}; see {}", job.console().display()),
    }
}

/// Builds and returns (name, path) of the executables of targets of `kind`.
fn executables(cargo: &mut Command, kind: &str) -> Result<Vec<(String, PathBuf)>> {
    let text = run::output_with_progress(cargo.arg("--message-format=json-render-diagnostics"))?;
    Ok(parse_messages(&text, kind))
}

fn parse_messages(text: &str, kind: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for message in text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
    {
        let Some(executable) = message["executable"].as_str() else {
            continue;
        };
        let is_kind = message["target"]["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|k| k == kind));
        let is_test = message["profile"]["test"] == (kind == "test");
        if let (true, true, Some(name)) = (is_kind, is_test, message["target"]["name"].as_str()) {
            found.push((name.to_owned(), Path::new(executable).to_path_buf()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executables_of_the_kind_are_taken() {
        let text = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"oracle"},"profile":{"test":true},"executable":"/t/oracle-1"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"oracle"},"profile":{"test":false},"executable":"/t/oracle"}
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"x"},"profile":{"test":false},"executable":null}
not json"#;
        assert_eq!(
            parse_messages(text, "test"),
            [("oracle".to_owned(), PathBuf::from("/t/oracle-1"))]
        );
        assert_eq!(
            parse_messages(text, "bin"),
            [("oracle".to_owned(), PathBuf::from("/t/oracle"))]
        );
    }
}
