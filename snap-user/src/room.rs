//! Is there room for the copies? Every page that a target writes to while its snapshot is open is kept twice. The module
//! looks at the whole machine; here we look at the targets' memory cgroups, which are charged with the copies of private
//! memory, and make room where that is wished.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Refuses targets whose cgroup could not hold as much again as they have now. cgroup v2; others have no say here.
///
/// # Errors
///
/// When the room is too small.
pub fn check(pids: &[i32]) -> Result<(), Failure> {
    let mut wanted = BTreeMap::<PathBuf, u64>::new();
    for pid in pids {
        let (Some(group), Some(bytes)) = (group_of(*pid), private_bytes(*pid)) else {
            continue; // gone, or no cgroup v2: the module will tell
        };
        for ancestor in group
            .ancestors()
            .take_while(|path| path.starts_with(CGROUPS) && *path != Path::new(CGROUPS))
        {
            *wanted.entry(ancestor.to_owned()).or_default() += bytes;
        }
    }
    for (group, want) in wanted {
        match room_in(&group) {
            Some(room) if room < want => {
                return Err(Failure::no_room(want, room, &group.display().to_string()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Asks the kernel to free memory: clean page cache first, then what can be swapped. `false`: it found less, and there is no
/// more.
///
/// # Errors
///
/// When it cannot be asked.
pub fn reclaim(bytes: u64) -> io::Result<bool> {
    match fs::write(Path::new(CGROUPS).join("memory.reclaim"), bytes.to_string()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        // Before 5.19, or no cgroup v2.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::write("/proc/sys/vm/drop_caches", "1").map(|()| false)
        }
        Err(error) => Err(error),
    }
}

fn group_of(pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(CGROUPS).join(path))
}

/// What may have to be kept twice at the cost of the cgroup. Shared memory is not: its copies are the module's own, which charges them to no
/// cgroup (`ff_shared_reserve` allocates without `__GFP_ACCOUNT`), and each process that maps it would count it once more.
fn private_bytes(pid: i32) -> Option<u64> {
    // The process's name need not be text.
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    Some(status_bytes(&String::from_utf8_lossy(&status)))
}

fn status_bytes(status: &str) -> u64 {
    ["RssAnon:", "VmSwap:"]
        .iter()
        .filter_map(|name| status.lines().find_map(|line| line.strip_prefix(name)))
        .filter_map(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .sum()
}

/// What a group may still take: what is left, and its page cache, which gives way. `None`: it has no limit.
fn room_in(group: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    Some(limit.saturating_sub(used) + cache_bytes(&read("memory.stat")?))
}

fn cache_bytes(stat: &str) -> u64 {
    stat.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| matches!(*name, "active_file" | "inactive_file"))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{cache_bytes, status_bytes};

    #[test]
    fn private_memory_is_resident_or_swapped_and_never_shared() {
        let status = "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t     100 kB\nRssFile:\t  700 kB\nRssShmem:\t  20 kB\nVmSwap:\t   3 kB\n";
        assert_eq!(status_bytes(status), 103 * 1024);
        assert_eq!(status_bytes("Name:\tkthreadd\n"), 0);
    }

    #[test]
    fn page_cache_gives_way() {
        assert_eq!(
            cache_bytes("anon 5\nactive_file 4096\ninactive_file 8192\nfile 99999\n"),
            12_288
        );
    }
}
