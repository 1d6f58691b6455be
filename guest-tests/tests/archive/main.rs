//! Images as a user makes and opens them: whole and incremental, compressed and encrypted, given up and cancelled, in files and in an
//! object store.

mod store;

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_tests::controller::{Daemon, freezeframe, oracle, report};
use guest_tests::device::Device;
use guest_tests::memory::{Cores, Memory};
use guest_tests::oracle::Oracle;
use guest_tests::target::Target;
use guest_tests::{patience, sh};
use serde_json::Value;

/// A folder of its own, empty, that goes with it.
struct Folder(&'static str);

impl Folder {
    fn new(path: &'static str) -> Self {
        sh(&format!("rm -rf {path}; mkdir -p {path}"));
        Self(path)
    }

    /// What is in it.
    fn list(&self) -> String {
        sh(&format!("ls -A {}", self.0))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        sh(&format!("rm -rf {}", self.0));
    }
}

/// Runs `freezeframe take` with these arguments, and returns its report.
fn take(arguments: &str) -> Value {
    let line: Vec<_> = ["take", "--json"]
        .into_iter()
        .chain(arguments.split(' '))
        .collect();
    report(&freezeframe(&line))
}

/// A command that works.
fn run(arguments: &str) -> String {
    sh(&format!("freezeframe {arguments}"))
}

/// The cores of an image, whole.
fn extracted(image: &str, more: &str) -> Cores {
    let folder = format!("{image}.d");
    sh(&format!("mkdir {folder}"));
    run(&format!("extract {image} -C {folder} {more}"));
    Cores::at(folder)
}

/// Has every kind of a menagerie the words that it has after `changes` changes?
fn assert_words(cores: &Cores, target: &Target, changes: u64) {
    for kind in [
        "private", "cow_file", "memfd", "system_v", "undumped", "moved", "torn", "huge",
    ] {
        let start = target.at(kind);
        let count = usize::try_from(target.at(&format!("{kind}_pages")) * 512).unwrap();
        let words = cores.words(target.pid(), start, count);
        let wrong = (start..)
            .step_by(8)
            .zip(words)
            .filter(|(address, word)| *word != address ^ changes);
        assert_eq!(wrong.count(), 0, "{kind} after {changes} changes");
    }
}

#[test]
fn an_image_of_two_processes_is_verified_and_extracted() {
    let folder = Folder::new("/tmp/two");
    let (target, pid) = oracle();
    let child = target.at("child");
    take(&format!("--pid {pid} {child} -o /tmp/two/image.tar"));
    assert!(run("verify /tmp/two/image.tar").contains("sound"));
    sh("mkdir /tmp/two/raw && tar -xf /tmp/two/image.tar -C /tmp/two/raw");
    sh("cd /tmp/two/raw && test $(wc -l < BLAKE3SUMS) = 5");
    let cores = extracted("/tmp/two/image.tar", "");
    let start = target.at("constant");
    for of in [target.pid(), i32::try_from(child).unwrap()] {
        let words = cores.words(of, start, 64 * 512);
        let wrong = (0_u64..)
            .zip(words)
            .filter(|(index, word)| *word != index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert_eq!(wrong.count(), 0, "pages that fork shares, in {of}");
    }
    let manifest: Value = serde_json::from_str(&sh("cat /tmp/two/raw/manifest.json")).unwrap();
    let elsewhere: u64 = [0, 1]
        .map(|at| manifest["processes"][at]["pages"]["elsewhere"].as_u64().unwrap())
        .iter()
        .sum();
    assert!(elsewhere >= 64, "they are there once: {manifest}");
    let shown = run("show /tmp/two/image.tar");
    assert!(shown.contains(&pid) && shown.contains("oracle"), "{shown}");
    drop(folder);
}

#[test]
fn what_is_sealed_is_opened_by_the_tools_of_others_and_by_ours() {
    let _folder = Folder::new("/tmp/sealed");
    sh("age-keygen -o /tmp/sealed/key 2>/dev/null; echo hush > /tmp/sealed/word; chmod 600 /tmp/sealed/word");
    let recipient = sh("age-keygen -y /tmp/sealed/key");
    let (_target, pid) = oracle();
    take(&format!(
        "--pid {pid} --compress zstd:1 --encrypt-to {} -o /tmp/sealed/image",
        recipient.trim()
    ));
    let names = sh("age -d -i /tmp/sealed/key /tmp/sealed/image | zstd -d | tar t");
    assert_eq!(
        names,
        format!("manifest.json\nprocess.{pid}.json\ncore.{pid}\nBLAKE3SUMS\n")
    );
    run("verify --identity /tmp/sealed/key /tmp/sealed/image");
    take(&format!(
        "--pid {pid} --compress lz4 --passphrase-file /tmp/sealed/word -o /tmp/sealed/other"
    ));
    run("verify --passphrase-file /tmp/sealed/word /tmp/sealed/other");
    let wrong = freezeframe(&["verify", "/tmp/sealed/other", "--identity", "/tmp/sealed/key"]);
    assert!(!wrong.status.success());
}

#[test]
fn an_increment_has_what_changed_and_its_parent_the_rest() {
    let _folder = Folder::new("/tmp/chain");
    let mut target = Target::spawn("menagerie", &["unmerged"]);
    let pid = target.pid();
    let whole = take(&format!("--pid {pid} --no-daemon -o /tmp/chain/0.tar"));
    let quiet = take(&format!(
        "--pid {pid} --no-daemon --parent /tmp/chain/0.tar -o /tmp/chain/1.tar"
    ));
    let bytes = |report: &Value| report["archive_bytes"].as_u64().unwrap();
    assert!(bytes(&quiet) * 3 < bytes(&whole), "{whole} {quiet}");
    assert!(target.ask().starts_with("changed"));
    let changed = take(&format!(
        "--pid {pid} --no-daemon --parent /tmp/chain/1.tar -o /tmp/chain/2.tar"
    ));
    assert!(bytes(&changed) > bytes(&quiet), "{changed}");
    run("verify /tmp/chain/2.tar");
    assert_words(&extracted("/tmp/chain/1.tar", ""), &target, 0);
    assert_words(&extracted("/tmp/chain/2.tar", ""), &target, 1);
    run("flatten /tmp/chain/2.tar -o /tmp/chain/flat.tar");
    sh("mkdir /tmp/chain/alone && mv /tmp/chain/flat.tar /tmp/chain/alone");
    run("verify /tmp/chain/alone/flat.tar");
    assert_words(&extracted("/tmp/chain/alone/flat.tar", ""), &target, 1);
    let difference = run("diff /tmp/chain/1.tar /tmp/chain/2.tar --json");
    assert!(difference.contains(&format!("{pid}")), "{difference}");
    // The one before the last is no parent any more: the image is whole, and says why.
    let late = take(&format!(
        "--pid {pid} --no-daemon --parent /tmp/chain/0.tar -o /tmp/chain/3.tar"
    ));
    let why = late["drain"]["whole"][0]["why"].as_str().unwrap();
    assert!(why.contains("was taken of it since the parent"), "{late}");
    assert!(bytes(&late) * 10 > bytes(&whole) * 9, "{late}");
    run("verify /tmp/chain/3.tar");
}

/// A take that goes on for a long time: a megabyte of it takes ten seconds.
fn slow(pid: &str, more: &[&str]) -> Child {
    slow_with(pid, more, [])
}

/// The same with more in its environment.
fn slow_with<'a>(
    pid: &str,
    more: &[&str],
    environment: impl IntoIterator<Item = (&'a str, String)>,
) -> Child {
    Command::new("freezeframe")
        .args(["take", "--pid", pid, "--rate", "100k"])
        .args(more)
        .envs(environment)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_until(what: &str, is: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < patience(60), "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// It ended by itself, and nothing is left of it.
fn assert_gone(child: Child, folder: &Folder, code: i32, words: &str) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{text}");
    wait_until("the snapshot is released", || {
        Device::open().open_snapshots() == 0
    });
    assert_eq!(folder.list(), "");
}

#[test]
fn a_signal_stops_it_at_once_and_nothing_is_left() {
    let folder = Folder::new("/tmp/stopped");
    let (target, pid) = oracle();
    for daemon in [None, Some(Daemon::start())] {
        let own: &[&str] = if daemon.is_none() { &["--no-daemon"] } else { &[] };
        for signal in ["INT", "TERM", "HUP"] {
            let child = slow(&pid, &[own, &["-o", "/tmp/stopped/image.tar"]].concat());
            wait_until("it is under way", || Device::open().open_snapshots() == 1);
            sh(&format!("kill -{signal} {}", child.id()));
            assert_gone(child, &folder, 1, "nothing is left of the image");
        }
    }
    // Into a pipe that nobody reads.
    let mut child = Command::new("freezeframe")
        .args(["take", "--no-daemon", "--pid", &pid, "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let unread = child.stdout.take();
    wait_until("it is under way", || Device::open().open_snapshots() == 1);
    sh(&format!("kill -INT {}", child.id()));
    assert_gone(child, &folder, 1, "nothing is left of the image");
    drop(unread);
    target.assert_runs();
}

#[test]
fn the_daemon_tells_how_far_it_is_and_cancels() {
    let folder = Folder::new("/tmp/cancelled");
    let (target, pid) = oracle();
    let nobody = freezeframe(&["cancel", "1"]);
    assert_eq!(nobody.status.code(), Some(1));
    let daemon = Daemon::start();
    let child = slow(&pid, &["-o", "/tmp/cancelled/image.tar"]);
    let draining =
        || -> Value { serde_json::from_str(&sh("curl -sf http://127.0.0.1:9188/api/v1/draining")).unwrap() };
    wait_until("it is listed", || {
        draining()[0]["progress"]["total_bytes"].is_u64()
    });
    let listed = draining();
    assert_eq!(listed[0]["pids"][0], target.pid());
    let id = listed[0]["snapshot"].to_string();
    let other = freezeframe(&["cancel", "4000000"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("writes no image of a snapshot 4000000"));
    run(&format!("cancel {id}"));
    assert_gone(child, &folder, 1, "stopped; nothing is left of the image");
    assert_eq!(draining(), Value::Array(Vec::new()));
    target.assert_runs();
    daemon.stop();
}

#[test]
fn past_its_memory_the_snapshot_gives_way() {
    let folder = Folder::new("/tmp/memory");
    // It writes all of its pages over and over: each of them is copied once. Until it has written a page for the
    // second time, it shares that with its child, and the snapshot is not the only one that has it.
    let oracle = Oracle::spawn(4096, "small");
    oracle.overwritten();
    let target = &oracle.target;
    let pid = target.pid().to_string();
    let child = slow(
        &pid,
        &[
            "--no-daemon",
            "--max-memory",
            "4MiB",
            "-o",
            "/tmp/memory/image.tar",
        ],
    );
    assert_gone(child, &folder, 8, "more than --max-memory 4194304");
    target.assert_runs();
    let enough = take(&format!(
        "--pid {pid} --no-daemon --max-memory 1GiB -o /tmp/memory/image.tar"
    ));
    assert!(enough["drain"]["pages_broken"].as_u64().unwrap() > 0, "{enough}");
    run("verify /tmp/memory/image.tar");
}
