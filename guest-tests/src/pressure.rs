//! What makes the kernel move memory about, for as long as it is in scope.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::{patience, sh};

/// A zram device as swap.
pub struct Swap;

impl Swap {
    /// A device of 512 MiB.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn on_zram() -> Self {
        sh("modprobe zram; echo 512M > /sys/block/zram0/disksize; mkswap -q /dev/zram0; swapon /dev/zram0");
        Self
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        sh("swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset");
    }
}

/// A memory cgroup. Who is in it must be gone before it is dropped.
pub struct Group(PathBuf);

impl Group {
    /// Makes it.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let path = PathBuf::from("/sys/fs/cgroup").join(name);
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
            .expect("cgroup v2 has a memory controller");
        fs::create_dir(&path).expect("it is new");
        Self(path)
    }

    /// Its directory.
    ///
    /// # Panics
    ///
    /// Never: it is text.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.to_str().expect("it is text")
    }

    /// Sets it.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    pub fn set(&self, name: &str, value: &str) {
        fs::write(self.0.join(name), value).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// A number that it has.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        text.trim().parse().expect("a number")
    }

    /// How many of its processes were killed for want of memory.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn killed(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.events")).expect("it is readable");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("it is counted").parse().expect("a number")
    }

    /// Swaps so many bytes out, or fewer where the kernel finds no more: it goes on trying for long.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    pub fn reclaim(&self, bytes: u64) {
        let path = self.path();
        sh(&format!(
            "timeout 2 sh -c 'echo {bytes} >{path}/memory.reclaim' 2>/dev/null || true"
        ));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Those who were killed leave it when they are reaped, or a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        println!(
            "{} stays: {}",
            self.path(),
            sh(&format!("cat {}/cgroup.procs", self.path()))
        );
    }
}

/// Something that is done over and over.
pub struct Pressure {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pressure {
    fn new(pause: u64, mut act: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                act();
                sleep(Duration::from_millis(pause));
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }

    /// Swaps memory of a cgroup out.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn swapping(group: &Group, bytes: u64) -> Self {
        let path = group.0.join("memory.reclaim");
        assert!(path.exists(), "the kernel has memory.reclaim (5.19)");
        Self::new(5, move || {
            // It may find less.
            let _ = fs::write(&path, bytes.to_string());
        })
    }

    /// Moves pages together.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn compacting() -> Self {
        Self::new(5, || {
            fs::write("/proc/sys/vm/compact_memory", "1").expect("the kernel can compact");
        })
    }
}

/// Files of sysfs that have another content for a while.
pub struct Settings(Vec<(PathBuf, String)>);

impl Settings {
    /// Writes the values to files of a directory.
    ///
    /// # Panics
    ///
    /// When the kernel does not have them.
    #[must_use]
    pub fn set(dir: &str, values: &[(&str, &str)]) -> Self {
        let mut before = Vec::new();
        for (name, value) in values {
            let path = PathBuf::from(dir).join(name);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            // Of several, the one in brackets.
            let chosen = text.split(['[', ']']).nth(1).unwrap_or(text.trim()).to_owned();
            fs::write(&path, value).unwrap_or_else(|error| panic!("{name}: {error}"));
            before.push((path, chosen));
        }
        Self(before)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for (path, value) in self.0.iter().rev() {
            fs::write(path, value).expect("it takes back what it was");
        }
    }
}

const KSM: &str = "/sys/kernel/mm/ksm";

/// KSM, in a hurry.
pub struct Merging {
    _files: Settings,
}

impl Merging {
    /// Begins.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn begin() -> Self {
        // Nothing is merged yet: what others had merged is counted until then.
        fs::write(format!("{KSM}/run"), "2").expect("the kernel has KSM");
        let values = [("pages_to_scan", "2000"), ("sleep_millisecs", "5"), ("run", "1")];
        Self {
            _files: Settings::set(KSM, &values),
        }
    }

    /// So many pages are others' now, or soon.
    ///
    /// # Panics
    ///
    /// When they are not for a long time.
    pub fn wait_for(&self, least: u64) {
        let begin = Instant::now();
        loop {
            let text = fs::read_to_string(format!("{KSM}/pages_sharing")).expect("the kernel has KSM");
            let merged: u64 = text.trim().parse().expect("a number");
            if merged >= least {
                return;
            }
            assert!(begin.elapsed() < patience(60), "only {merged} pages are merged");
            sleep(Duration::from_millis(20));
        }
    }
}

/// khugepaged, in a hurry, and huge pages wherever they fit.
pub struct Collapsing {
    _files: [Settings; 2],
}

impl Collapsing {
    /// Begins.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn begin() -> Self {
        let dir = "/sys/kernel/mm/transparent_hugepage";
        Self {
            _files: [
                Settings::set(dir, &[("enabled", "always"), ("defrag", "always")]),
                Settings::set(
                    &format!("{dir}/khugepaged"),
                    &[
                        ("pages_to_scan", "8192"),
                        ("scan_sleep_millisecs", "5"),
                        ("alloc_sleep_millisecs", "5"),
                    ],
                ),
            ],
        }
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

/// The kernel's counters, to see that something happened.
pub struct Events(HashMap<String, u64>);

impl Events {
    /// As they are now.
    ///
    /// # Panics
    ///
    /// When the kernel does not have it.
    #[must_use]
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/vmstat").expect("it is readable");
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
                .collect(),
        )
    }

    /// Does something until each of these has happened so often since.
    ///
    /// # Panics
    ///
    /// When one has not after fifty times.
    pub fn until(&self, names: &[&str], least: u64, mut act: impl FnMut()) {
        for _ in 0..50 {
            act();
            let now = Self::now();
            let counts = names.iter().map(|name| now.0[*name] - self.0[*name]);
            let counts: Vec<_> = counts.collect();
            println!("{names:?}: {counts:?}");
            if counts.iter().all(|count| *count >= least) {
                return;
            }
        }
        panic!("{names:?} do not happen");
    }
}
