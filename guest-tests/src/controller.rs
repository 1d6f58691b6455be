//! `freezeframe` as a user runs it, and its daemon.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::target::Target;
use crate::{patience, sh};

/// Where the daemon is scraped.
pub const METRICS: &str = "http://127.0.0.1:9188/metrics";

/// Runs `freezeframe` to its end.
///
/// # Panics
///
/// When it is not there.
#[must_use]
pub fn freezeframe(arguments: &[&str]) -> Output {
    Command::new("freezeframe")
        .args(arguments)
        .output()
        .expect("freezeframe runs")
}

/// A small oracle that runs, and its process id as an argument.
///
/// # Panics
///
/// When it does not.
#[must_use]
pub fn oracle() -> (Target, String) {
    let target = Target::spawn("oracle", &["64", "small"]);
    target.assert_runs();
    let pid = target.pid().to_string();
    (target, pid)
}

/// The report of a take that worked.
///
/// # Panics
///
/// When it did not, or did not print JSON.
pub fn report(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// `freezeframe serve`, stopped when it goes out of scope.
pub struct Daemon(pub Child);

impl Daemon {
    /// Starts it, and waits until it listens: ten times as long where a busy target runs, since programs are attached after a
    /// grace period of RCU Tasks each.
    ///
    /// # Panics
    ///
    /// When it does not for a long time.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same, with further arguments.
    ///
    /// # Panics
    ///
    /// When it does not for a long time.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        let daemon = Self(
            Command::new("freezeframe")
                .arg("serve")
                .args(arguments)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        // Loading the BPF programs takes seconds in a guest without KVM.
        let begin = Instant::now();
        while begin.elapsed() < patience(240) {
            if UnixStream::connect("/run/freezeframe.sock").is_ok() {
                return daemon;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("the daemon does not listen");
    }

    /// Stops it, and returns what it said.
    ///
    /// # Panics
    ///
    /// When it does not end well.
    pub fn stop(mut self) -> String {
        sh(&format!("kill -TERM {}", self.0.id()));
        assert!(self.0.wait().unwrap().success());
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
        // A test that fails may find the reason there.
        if let (true, Some(said)) = (std::thread::panicking(), &mut self.0.stderr) {
            let mut text = String::new();
            let _ = said.read_to_string(&mut text);
            eprintln!("the daemon said: {text}");
        }
    }
}

/// What Prometheus would scrape now.
#[must_use]
pub fn scrape() -> String {
    sh(&format!("curl -sf {METRICS}"))
}

/// The value of a metric in a scrape.
///
/// # Panics
///
/// When it is not there.
#[must_use]
pub fn value(scrape: &str, metric: &str) -> f64 {
    let line = scrape
        .lines()
        .find(|line| line.starts_with(&format!("{metric} ")));
    let line = line.unwrap_or_else(|| panic!("no {metric} in {scrape}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
