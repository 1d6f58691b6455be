//! Which processes a take is of.

use std::fs;
use std::io;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The processes of a take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// These.
    Pids(Vec<i32>),
    /// Every user process but whoever takes the snapshot, and those that this names by id or name.
    Everyone {
        /// Ids and names.
        exempt: Vec<String>,
    },
}

impl Targets {
    /// Those that there are now.
    ///
    /// # Errors
    ///
    /// When `/proc` is not there.
    pub fn pids(&self) -> anyhow::Result<Vec<i32>> {
        match self {
            Self::Pids(pids) => Ok(pids.clone()),
            Self::Everyone { exempt } => {
                everyone(exempt).context("cannot list the processes; is /proc mounted?")
            }
        }
    }

    /// Whether one that is gone is not missed.
    #[must_use]
    pub const fn is_everyone(&self) -> bool {
        matches!(self, Self::Everyone { .. })
    }

    /// The same, without us.
    #[must_use]
    pub fn without_us(mut self) -> Self {
        if let Self::Everyone { exempt } = &mut self {
            exempt.push(std::process::id().to_string());
        }
        self
    }
}

fn everyone(exempt: &[String]) -> io::Result<Vec<i32>> {
    let own = std::process::id().to_string();
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Who is gone meanwhile is none of them.
        let Ok(status) = fs::read(format!("/proc/{pid}/status")) else {
            continue;
        };
        // Who has a name that is no text is one of them all the same.
        let status = String::from_utf8_lossy(&status);
        let pid_text = pid.to_string();
        let named = |exempt: &String| *exempt == pid_text || Some(exempt.as_str()) == comm(&status);
        if has_memory(&status) && pid_text != own && !exempt.iter().any(named) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

fn comm(status: &str) -> Option<&str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Name:"))
        .map(str::trim)
}

/// Neither a kernel thread nor a zombie.
fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::{Targets, comm, has_memory};

    #[test]
    fn kernel_threads_and_zombies_have_no_memory() {
        assert!(has_memory("Name:\tcat\nVmSize:\t 5 kB\n"));
        assert!(!has_memory("Name:\tkthreadd\nState:\tS\n"));
        assert_eq!(comm("Name:\tcat\nVmSize:\t 5 kB\n"), Some("cat"));
    }

    #[test]
    fn who_has_a_name_that_is_no_text_is_one_of_everyone() {
        // Its name is that of the link by which it was started.
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
        std::os::unix::fs::symlink("/bin/sleep", &link).unwrap();
        let mut child = Command::new(&link).arg0("sleep").arg("1000").spawn().unwrap();
        let pids = Targets::Everyone { exempt: Vec::new() }.pids();
        child.kill().unwrap();
        child.wait().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(pids.unwrap().contains(&pid));
    }

    #[test]
    fn everyone_is_not_us() {
        let own = i32::try_from(std::process::id()).unwrap();
        let everyone = Targets::Everyone { exempt: Vec::new() };
        let pids = everyone.pids().unwrap();
        assert!(!pids.contains(&own));
        let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
        assert!(pids.contains(&parent) || parent == 0);
        let but_parent = Targets::Everyone {
            exempt: vec![parent.to_string()],
        };
        assert!(!but_parent.pids().unwrap().contains(&parent));
    }
}
