//! The files that a process may write to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

/// Files that a process may write to, as it sees them.
#[must_use]
pub fn paths(pid: i32) -> Vec<PathBuf> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let descriptors = fs::read_dir(&folder).into_iter().flatten().flatten();
    let open = descriptors.filter_map(|entry| {
        let info = fs::read_to_string(format!(
            "/proc/{pid}/fdinfo/{}",
            entry.file_name().to_string_lossy()
        ))
        .ok()?;
        let regular = fs::metadata(entry.path()).ok()?.file_type();
        if !is_writable(&info) || regular.is_socket() || regular.is_fifo() || regular.is_char_device() {
            return None;
        }
        fs::read_link(entry.path()).ok()
    });
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = maps.lines().filter_map(mapped_for_writing).map(PathBuf::from);
    let paths: BTreeSet<_> = open.chain(mapped).filter(|path| path.is_absolute()).collect();
    paths.into_iter().collect()
}

/// `flags:` of a descriptor, octal; the lowest two bits tell whether it is read, written or both.
fn is_writable(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & 3 != 0)
}

/// The file of a line of `maps` that is shared and writable.
fn mapped_for_writing(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let access = words.nth(1)?;
    let path = words.nth(3)?;
    (access.starts_with("rw") && access.ends_with('s') && path.starts_with('/')).then(|| {
        // The path may have blanks.
        line.find(path).map_or(path, |at| &line[at..])
    })
}

#[cfg(test)]
mod tests {
    use super::{is_writable, mapped_for_writing};

    #[test]
    fn descriptors_tell_whether_they_write() {
        assert!(is_writable("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"));
        assert!(is_writable("flags:\t01\n"));
        assert!(!is_writable("flags:\t0100000\n"));
        assert!(!is_writable(""));
    }

    #[test]
    fn only_shared_and_writable_mappings_of_files_count() {
        let line = "7f00-7f10 rw-s 00000000 08:01 12   /srv/a file";
        assert_eq!(mapped_for_writing(line), Some("/srv/a file"));
        for line in [
            "7f00-7f10 rw-p 00000000 08:01 12   /srv/file",
            "7f00-7f10 r--s 00000000 08:01 12   /srv/file",
            "7f00-7f10 rw-s 00000000 00:00 0",
        ] {
            assert_eq!(mapped_for_writing(line), None, "{line}");
        }
    }
}
