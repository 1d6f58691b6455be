//! A target that was snapshotted: its image opened by tar and by ours, and what the kernel dumped of it a moment later.

use guest_tests::controller::{freezeframe, report};
use guest_tests::memory::Cores;
use guest_tests::sh;
use guest_tests::target::Target;

use crate::record::{self, Record};

/// Where everything lies.
const FOLDER: &str = "/tmp/debuggers";

/// A target and its core.
pub struct Scene {
    /// Its folder.
    pub folder: String,
    /// Its program.
    pub program: String,
    /// Its core, as tar takes it out of the image.
    pub core: String,
    /// Its core, as `freezeframe extract` writes it: in the order of addresses.
    pub extracted: String,
    /// The core that the kernel dumped when it was killed.
    pub kernel_core: String,
    /// The target, which is dead by now.
    pub target: Target,
    memory: Cores,
}

/// A folder that is empty.
pub fn folder(name: &str) -> String {
    let folder = format!("{FOLDER}/{name}");
    sh(&format!("rm -rf {folder}; mkdir -p {folder}"));
    folder
}

impl Scene {
    /// Starts a target, takes its snapshot, and kills it such that the kernel dumps it.
    pub fn take(folder: String, program: &str, arguments: &[&str]) -> Self {
        let target = Target::spawn(program, arguments);
        let pid = target.pid();
        let program = sh(&format!("readlink /proc/{pid}/exe")).trim().to_owned();
        let image = format!("{folder}/image.tar");
        let id = pid.to_string();
        report(&freezeframe(&[
            "take",
            "--no-daemon",
            "--json",
            "--pid",
            &id,
            "-o",
            &image,
        ]));
        sh(&format!(
            "echo {folder}/kernel > /proc/sys/kernel/core_pattern; echo 0 > /proc/sys/kernel/core_uses_pid
             prlimit --pid {pid} --core=unlimited; kill -ABRT {pid}
             while ! grep -q '^State:.Z' /proc/{pid}/status; do sleep 0.1; done
             mkdir {folder}/raw {folder}/whole
             tar -xf {image} -C {folder}/raw
             freezeframe extract {image} -C {folder}/whole
             rm {image}"
        ));
        Self {
            program,
            core: format!("{folder}/raw/core.{pid}"),
            extracted: format!("{folder}/whole/core.{pid}"),
            kernel_core: format!("{folder}/kernel"),
            memory: Cores::at(format!("{folder}/whole")),
            target,
            folder,
        }
    }

    /// What its threads had recorded at the instant.
    pub fn records(&self) -> Vec<Record> {
        record::records(&self.target, &self.memory)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            sh(&format!("rm -rf {}", self.folder));
        }
    }
}
