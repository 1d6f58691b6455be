//! criu, run from a root of its own: the guest's C library is older than the one that it was linked against.

use std::fs;
use std::process::Command;

use crate::sh;

const ROOT: &str = "/var/tmp/criu";

/// Where the dump goes: memory, the best case.
const IMAGES: &str = "/tmp/criu-images";

/// criu.
pub struct Criu;

impl Criu {
    /// Unpacks its root.
    #[must_use]
    pub fn unpack(tar: &str) -> Self {
        sh(&format!("mkdir -p {ROOT} && tar -C {ROOT} -xf {tar}"));
        Self
    }

    fn command() -> Command {
        let libraries = format!("{ROOT}/usr/lib/x86_64-linux-gnu:{ROOT}/lib/x86_64-linux-gnu");
        let mut command = Command::new(format!("{ROOT}/usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(libraries)
            .arg(format!("{ROOT}/usr/sbin/criu"));
        command
    }

    /// What it calls itself.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn version(&self) -> String {
        let output = Self::command().arg("--version").output().expect("criu runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.split_whitespace().nth(1).unwrap_or("unknown").to_owned()
    }

    /// Dumps a process, which runs on; how long it was frozen, in nanoseconds.
    ///
    /// # Panics
    ///
    /// When it cannot be dumped.
    #[must_use]
    pub fn dump(&self, pid: u32) -> u64 {
        let (frozen, ()) = self.dump_and(pid, |_| ());
        frozen
    }

    /// The same, and looks at the folder with the images before it goes.
    ///
    /// # Panics
    ///
    /// When it cannot be dumped.
    pub fn dump_and<T>(&self, pid: u32, look: impl FnOnce(&str) -> T) -> (u64, T) {
        fs::create_dir_all(IMAGES).expect("there is room");
        let output = Self::command()
            .args(["dump", "--tree", &pid.to_string(), "--images-dir", IMAGES])
            .args(["--leave-running", "--display-stats", "-v1"])
            .output()
            .expect("criu runs");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let seen = look(IMAGES);
        fs::remove_dir_all(IMAGES).expect("it was made above");
        let frozen = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("Frozen time:"));
        let usec = frozen.and_then(|rest| rest.split_whitespace().next());
        let usec: u64 = usec
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("{said}"));
        (usec * 1000, seen)
    }
}
