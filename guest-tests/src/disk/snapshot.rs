//! Snapshots with a disk's half, taken and done with as a user does it.

use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::dm;
use super::origin::Origin;
use crate::controller::freezeframe;
use crate::memory::Cores;
use crate::sh;

/// What is to be snapshotted.
#[derive(Clone, Debug, Default)]
pub struct What<'a> {
    /// Processes.
    pub pids: Vec<i32>,
    /// Mount points.
    pub mounts: Vec<&'a str>,
    /// The block device for what is written meanwhile.
    pub store: &'a str,
    /// Further arguments.
    pub more: Vec<&'a str>,
}

impl What<'_> {
    /// The command that takes it, and where the archive goes if there is one.
    fn command(&self) -> (Command, Option<String>) {
        let mut command = Command::new("freezeframe");
        command.args(["take", "--no-daemon", "--json"]);
        let mut archive = None;
        for pid in &self.pids {
            command.args(["--pid", &pid.to_string()]);
        }
        if !self.pids.is_empty() {
            static NUMBER: AtomicU64 = AtomicU64::new(0);
            std::fs::create_dir_all("/tmp/disk").expect("it can be made");
            let path = format!("/tmp/disk/{}.tar", NUMBER.fetch_add(1, Ordering::Relaxed));
            command.args(["--output", &path]);
            archive = Some(path);
        }
        for mount in &self.mounts {
            command.args(["--fs", mount]);
        }
        if !self.store.is_empty() {
            command.args(["--snapblockdev", self.store]);
        }
        command.args(&self.more);
        (command, archive)
    }

    /// Takes it.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn take(&self) -> Snapshot {
        self.try_take()
            .unwrap_or_else(|output| panic!("{}", said(&output)))
    }

    /// Takes it.
    ///
    /// # Errors
    ///
    /// What `freezeframe` left.
    ///
    /// # Panics
    ///
    /// When there is no `freezeframe`.
    pub fn try_take(&self) -> Result<Snapshot, Output> {
        let (mut command, archive) = self.command();
        let output = command.output().expect("freezeframe runs");
        if !output.status.success() {
            if let Some(archive) = archive {
                // It may have come that far.
                let _ = std::fs::remove_file(archive);
            }
            return Err(output);
        }
        let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
        let id = report["disk"]["id"].as_str().unwrap_or_default().to_owned();
        Ok(Snapshot {
            id,
            report,
            memory: archive.map(|archive| Cores::unpack(&archive)),
        })
    }

    /// Begins to take it.
    ///
    /// # Panics
    ///
    /// When there is no `freezeframe`.
    #[must_use]
    pub fn begin(&self) -> Child {
        let (mut command, _) = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("freezeframe runs")
    }
}

/// What a command said to people.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

/// A snapshot with a disk's half. It stays when this goes out of scope.
pub struct Snapshot {
    /// By which it is called.
    pub id: String,
    /// What `take --json` printed.
    pub report: Value,
    /// The processes' memory at the instant, where processes were snapshotted.
    pub memory: Option<Cores>,
}

impl Snapshot {
    /// The memory of its processes.
    ///
    /// # Panics
    ///
    /// When it has none.
    #[must_use]
    pub fn memory(&self) -> &Cores {
        self.memory.as_ref().expect("processes were snapshotted, too")
    }

    /// The frozen device of its first origin.
    #[must_use]
    pub fn device(&self) -> String {
        format!("/dev/mapper/ff-origin-{}-0", self.id)
    }

    /// Mounts its first origin.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn mount(&self) -> Origin {
        self.try_mount()
            .unwrap_or_else(|output| panic!("{}", said(&output)))
    }

    /// Mounts its first origin.
    ///
    /// # Errors
    ///
    /// What `freezeframe` left.
    pub fn try_mount(&self) -> Result<Origin, Output> {
        Origin::mount(&self.id, &[])
    }

    /// Makes the writes since the instant part of the origin; nothing is left of the snapshot.
    pub fn commit(self) {
        done(&["commit", &self.id]);
        self.assert_gone();
    }

    /// The same, and what `commit --json` printed.
    ///
    /// # Panics
    ///
    /// When it printed no JSON.
    #[must_use]
    pub fn commit_measured(self) -> Value {
        let text = done(&["commit", "--json", &self.id]);
        serde_json::from_str(&text).expect("it prints JSON")
    }

    /// Takes the writes since the instant back; nothing is left of the snapshot.
    pub fn discard(self) {
        done(&["discard", &self.id]);
        self.assert_gone();
    }

    /// What `ls` says of it.
    #[must_use]
    pub fn listed(&self) -> Value {
        listed(&self.id).expect("it is listed")
    }

    fn assert_gone(&self) {
        for kind in ["origin", "store", "view"] {
            assert_eq!(dm::named(&format!("ff-{kind}-{}", self.id)), [""; 0]);
        }
        assert_eq!(listed(&self.id), None);
        dm::assert_all_live();
    }
}

/// Runs `freezeframe`, which must succeed; returns what it printed.
///
/// # Panics
///
/// When it does not.
pub fn done(arguments: &[&str]) -> String {
    let output = freezeframe(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `freezeframe`, which must fail and say all of `words`.
///
/// # Panics
///
/// When it does not.
pub fn refused(arguments: &[&str], words: &[&str]) {
    assert_says(arguments, &freezeframe(arguments), words);
}

/// It failed, and said all of `words`.
///
/// # Panics
///
/// When it did not.
pub fn assert_says(what: &[&str], output: &Output, words: &[&str]) {
    let said = said(output);
    assert!(!output.status.success(), "{what:?} succeeded: {said}");
    for word in words {
        assert!(said.contains(word), "{what:?} does not say `{word}`: {said}");
    }
}

/// Every snapshot that `ls` knows.
///
/// # Panics
///
/// When it prints no JSON.
#[must_use]
pub fn list() -> Vec<Value> {
    let text = done(&["ls", "--json", "--interval", "100"]);
    let json: Value = serde_json::from_str(&text).expect("it prints JSON");
    let list = json.get("snapshots").unwrap_or(&json);
    list.as_array().expect("a list").clone()
}

/// What `ls` says of one snapshot.
#[must_use]
pub fn listed(id: &str) -> Option<Value> {
    list().into_iter().find(|snapshot| snapshot["id"] == id)
}

/// Whatever snapshots there are, nothing of any is left in the device-mapper.
///
/// # Panics
///
/// When something is.
pub fn assert_nothing_left() {
    for kind in ["origin", "store", "view"] {
        assert_eq!(
            dm::named(&format!("ff-{kind}-")),
            [""; 0],
            "{}",
            sh("dmsetup table")
        );
    }
    dm::assert_all_live();
}
