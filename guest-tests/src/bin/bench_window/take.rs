//! `freezeframe take`, and what it can do.

use std::io::Read as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How long writers are watched after a snapshot or a fork.
pub const HOLD: Duration = Duration::from_millis(1100);

/// The ways of arming that are compared, where the controller knows them.
const ARMS: [&str; 3] = ["eager", "lazy", "pud"];

/// The ways of freezing that are compared.
const FREEZES: [&str; 3] = ["soft", "ipi", "signal"];

/// The controller.
pub struct Freezeframe {
    pub arms: Vec<String>,
    pub freezes: Vec<String>,
}

impl Freezeframe {
    /// Asks the controller what it knows.
    pub fn new() -> Self {
        let help = guest_tests::sh("freezeframe take --help");
        let known = |option: &str, names: [&str; 3]| {
            let values = values(&help, option);
            let names = names
                .into_iter()
                .filter(|name| values.iter().any(|value| value == name));
            names.map(str::to_owned).collect()
        };
        Self {
            arms: known("--arm", ARMS),
            freezes: known("--freeze", FREEZES),
        }
    }

    /// A snapshot that is let go at once; its report.
    pub fn take(&self, pids: &[u32], options: &[&str]) -> Value {
        let output = command(pids, options).output().expect("freezeframe runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("the report is JSON")
    }

    /// A snapshot that is kept for [`HOLD`]: nobody reads its archive meanwhile.
    pub fn hold(&self, pid: u32, arm: &str) -> Held {
        let mut child = command(&[pid], &["--arm", arm, "-o", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("freezeframe runs");
        let mut archive = child.stdout.take().expect("piped");
        // The archive begins when the pages are held.
        archive.read_exact(&mut [0]).expect("the archive begins");
        std::thread::sleep(HOLD);
        Held { child, archive }
    }
}

/// A snapshot that is still there.
pub struct Held {
    child: Child,
    archive: ChildStdout,
}

impl Held {
    /// Reads the archive to its end; the report.
    pub fn finish(mut self) -> Value {
        std::io::copy(&mut self.archive, &mut std::io::sink()).expect("the archive can be read");
        let output = self.child.wait_with_output().expect("freezeframe ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_str(&said).expect("the report is JSON")
    }
}

/// When the window of a report was over.
pub fn window_end(report: &Value) -> u64 {
    let phases = report["phases"].as_array().expect("there are phases");
    let thaw = phases.iter().find(|phase| phase["name"] == "thaw_tasks");
    let number = |name: &str| thaw.expect("it thawed")[name].as_u64().expect("a number");
    number("start_ns") + number("duration_ns")
}

fn command(pids: &[u32], options: &[&str]) -> Command {
    let mut command = Command::new("freezeframe");
    command
        .args(["take", "--json", "--no-daemon"])
        .args(options)
        .arg("--pid");
    command.args(pids.iter().map(ToString::to_string));
    command
}

/// The possible values of an option: clap lists them as `- name: what`, or `[possible values: …]`.
fn values(help: &str, option: &str) -> Vec<String> {
    let after = help
        .lines()
        .skip_while(|line| !line.trim_start().starts_with(option));
    let block = after
        .skip(1)
        .take_while(|line| !line.trim_start().starts_with("--"));
    let words = block.flat_map(|line| {
        let line = line.trim();
        let listed = line.strip_prefix("[possible values: ");
        let all = listed.map(|rest| rest.trim_end_matches(']').split(", ").collect::<Vec<_>>());
        let one = line.strip_prefix("- ").and_then(|rest| rest.split(':').next());
        all.unwrap_or_default().into_iter().chain(one)
    });
    words.map(str::to_owned).collect()
}
