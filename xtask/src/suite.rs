//! Suites: test binaries and jobs, each in a guest of its own, counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest;
use crate::job::{self, Job, Watched};
use crate::kernel::Series;
use crate::module::{self, Variant};
use crate::{build, garage, paths, qemu, run, step};

/// Something that runs in a guest and passes or fails.
pub struct Suite {
    /// What `--only` matches.
    pub name: String,
    /// The job's directory.
    dir: PathBuf,
    /// The module that it wants.
    variant: Variant,
    /// Of several kernels it runs on the first only.
    once: bool,
}

/// Suites that take minutes, and whose kernel's side others see as well: `cargo xtask soak` runs them on every kernel, and so does
/// `cargo xtask test` where they are asked for by name.
const ONCE: [&str; 2] = ["dashboards", "debuggers"];

/// Suites that take minutes each: `cargo xtask soak` runs them, and `cargo xtask test` where they are asked for by name.
const LONG: [&str; 11] = [
    "disk_db",
    "disk_errors",
    "disk_faults",
    "disk_guard",
    "disk_readonly",
    "disk_reset",
    "disk_room",
    "disk_root",
    "disk_root_reset",
    "disk_watch",
    "root_by_device",
];

/// The suite that stores images.
const STORES: &str = "archive";

/// Gives the suites what they need besides, and what would take its time to build where it is not needed.
pub fn equip(suites: &[Suite]) -> Result<()> {
    for suite in suites.iter().filter(|suite| suite.name == STORES) {
        copy_stripped(&garage::ensure()?, &suite.dir.join("bin/garage"))?;
    }
    Ok(())
}

/// Leaves to soak what takes long.
pub fn leave_long(suites: &mut Vec<Suite>) {
    suites.retain(|suite| !LONG.contains(&suite.name.as_str()));
    for suite in suites {
        suite.once = ONCE.contains(&suite.name.as_str());
    }
}

/// A suite whose name ends like this may reset its guest, and is run again when that has booted.
const RESETS: &str = "_reset";

/// How many times such a suite's guest may boot.
const BOOTS: u32 = 500;

/// How much is run where nothing is asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All but the long suites.
    Usual,
    /// All of them.
    Long,
}

/// A suite with this word in its name runs in a guest whose root is on a layer.
const ON_A_LAYER: &str = "root";

/// How to run the suites.
pub struct Settings {
    /// Environment variables for every job.
    pub env: Vec<(String, String)>,
    /// Arguments for libtest.
    pub libtest: Vec<String>,
    /// Whether the long suites run, too.
    pub extent: Extent,
    /// How many guests run at once.
    pub jobs: usize,
    /// When a suite has failed by its length alone, where the kernel is as fast as a supported one.
    pub timeout: Duration,
}

/// How many guests run at once where nobody says: one a processor, within reason, for each takes gigabytes.
pub fn usual_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(4))
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

/// Copies of programs, each with its name.
fn stripped(programs: Vec<(String, PathBuf)>) -> Result<Vec<(String, PathBuf)>> {
    let dir = paths::guest().join("bin");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    programs
        .into_iter()
        .map(|(name, program)| {
            let copy = dir.join(&name);
            copy_stripped(&program, &copy)?;
            Ok((name, copy))
        })
        .collect()
}

/// Copies a program without what only a debugger reads, which every guest would have to unpack. Symbols stay.
fn copy_stripped(from: &Path, to: &Path) -> Result<()> {
    run::output(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(to)
            .arg(from),
    )
    .map(drop)
}

/// Every suite there is: the test binaries of `guest-tests`, built, and the jobs below it.
pub fn all() -> Result<Vec<Suite>> {
    let bins = stripped(programs()?)?;
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
        copy_stripped(&executable, &dir.join("suite"))?;
        let resets = name.ends_with(RESETS);
        // A reset leaves no time for what libtest says at the end.
        let at_once = if resets { " --nocapture" } else { "" };
        fs::write(
            dir.join("run.sh"),
            format!(
                "#!/bin/sh\nexport PATH=\"$PWD/bin:$PATH\"\n\
                 eval exec ./suite --test-threads=1 --color=never{at_once} \"$FF_LIBTEST\"\n"
            ),
        )?;
        if resets {
            fs::write(dir.join(job::BOOTS), BOOTS.to_string())?;
        }
        if name.split('_').any(|word| word == ON_A_LAYER) {
            fs::write(dir.join(job::ROOT), "/dev/mapper/ff-root")?;
        }
        suites.push(Suite {
            name,
            dir,
            variant: Variant::Test,
            once: false,
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
                    once: false,
                });
            }
        }
    }
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

/// A suite on a kernel.
struct Run {
    name: String,
    job: Job,
}

/// Runs `suites` on each of `kernels`, several at once, and counts them.
pub fn run(suites: &[Suite], kernels: &[Series], settings: &Settings, tally: &mut Tally) -> Result<()> {
    let runs = {
        let _lock = step::lock()?;
        runs(suites, kernels, settings)?
    };
    let workers = settings.jobs.clamp(1, runs.len().max(1));
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(tally));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    println!("suite {}", run.name);
                    let started = Instant::now();
                    let passed = one(&run.job);
                    // Whoever panicked while counting has lost one count, and the exit code with it.
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    if run.job.watched == Watched::Later {
                        show(&run.job.console());
                    }
                    tally.count(&run.name, passed, started);
                }
            });
        }
    });
    Ok(())
}

/// What there is to run; all that they need is built.
fn runs(suites: &[Suite], kernels: &[Series], settings: &Settings) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for series in kernels {
        // What is found out about the host is found out once, and then remembered.
        qemu::accel(&series.unpacked()?)?;
    }
    let controller = paths::guest().join("bin/freezeframe");
    copy_stripped(&paths::controller(), &controller)?;
    // Those that take long end side by side, not one of them alone at the end.
    for suite in suites {
        for series in kernels.iter().take(if suite.once { 1 } else { kernels.len() }) {
            let mut job = Job::new(suite.dir.clone(), *series);
            job.module = Some(module::build(*series, suite.variant)?);
            job.controller = Some(controller.clone());
            job.env.clone_from(&settings.env);
            job.env
                .push(("FF_LIBTEST".to_owned(), settings.libtest.join(" ")));
            job.timeout = settings.timeout * series.slowness();
            job.out = paths::guest()
                .join("results")
                .join(format!("{}-{}", series.name(), suite.name));
            job.layered()?;
            runs.push(Run {
                name: format!("{} on {}", suite.name, series.name()),
                job,
            });
        }
    }
    if settings.jobs > 1 && runs.len() > 1 {
        for run in &mut runs {
            run.job.watched = Watched::Later;
        }
    }
    Ok(runs)
}

/// Prints a console's log.
fn show(console: &Path) {
    // Without it the count says that the suite failed, and where to look.
    if let Ok(text) = fs::read(console) {
        print!("{}", String::from_utf8_lossy(&text));
    }
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
    fn there_is_a_suite_of_every_name_among_the_long_ones() {
        let dir = paths::root().join("guest-tests");
        for name in LONG.iter().chain(&ONCE) {
            let places = [
                format!("tests/{name}.rs"),
                format!("tests/{name}/main.rs"),
                format!("jobs/{name}"),
            ];
            assert!(places.iter().any(|place| dir.join(place).exists()), "{name}");
        }
    }

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
