//! `freezeframe take`, and what it took of memory.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use guest_tests::target::Target;
use serde_json::{Value, json};

/// What the controller says, where it may not say it to us.
const SAID: &str = "/tmp/said";

/// How often to look at its memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether somebody looks at the controller while it works.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Nobody: it would take of its time.
    No,
    /// At its memory.
    Memory,
}

/// The report of a take that worked.
pub fn take(target: &Target, options: &[&str]) -> Value {
    watched(target, options, Watch::No).0
}

/// The same, and the most memory that it had, in KiB: all of it, and what was its own and what was files' at once.
pub fn watched(target: &Target, options: &[&str], watch: Watch) -> (Value, Value) {
    let file = |name: &str| File::create(format!("{SAID}.{name}")).expect("there is room");
    #[expect(
        clippy::zombie_processes,
        reason = "waited for by its id, for that tells what it used"
    )]
    let child = Command::new("freezeframe")
        .args(["take", "--json", "--no-daemon", "--pid"])
        .arg(target.pid().to_string())
        .args(options)
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .expect("freezeframe runs");
    let pid = child.id();
    let looks = (watch == Watch::Memory).then(|| thread::spawn(move || look(pid)));
    let (status, most) = wait(&child);
    let said = |name: &str| fs::read_to_string(format!("{SAID}.{name}")).expect("it was made above");
    assert!(
        status == 0,
        "{options:?}: status {status:#x}: {}{}",
        said("err"),
        said("out")
    );
    let (own, files) = looks.map_or((0, 0), |looks| looks.join().expect("it looks"));
    let report = serde_json::from_str(&said("out")).expect("the report is JSON");
    (
        report,
        json!({ "rss_kib": most, "anonymous_kib": own, "file_kib": files }),
    )
}

/// How it ended, and the most memory that it had, in KiB.
fn wait(child: &Child) -> (i32, i64) {
    let pid = i32::try_from(child.id()).expect("pids are small");
    let mut status = 0;
    // SAFETY: made of integers alone.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: our own child, waited for nowhere else; both outlive the call.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, pid, "{}", std::io::Error::last_os_error());
    (status, usage.ru_maxrss)
}

fn look(pid: u32) -> (u64, u64) {
    let (mut own, mut files) = (0, 0);
    // Gone, or a zombie, which has none.
    while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let (Some(anonymous), Some(mapped)) = (kib("RssAnon:"), kib("RssFile:")) else {
            break;
        };
        (own, files) = (own.max(anonymous), files.max(mapped));
        sleep(LOOK_EVERY);
    }
    (own, files)
}

/// How long the image took.
pub fn drained(report: &Value) -> u64 {
    let mut phases = report["phases"].as_array().into_iter().flatten();
    let drain = phases.find(|phase| phase["name"] == "drain");
    drain
        .and_then(|drain| drain["duration_ns"].as_u64())
        .expect("it was drained")
}
