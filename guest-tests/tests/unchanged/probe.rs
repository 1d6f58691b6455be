//! Breakpoints of the kernel's.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use guest_tests::sh;
use guest_tests::target::Target;

const PAGE: u64 = 4096;
const TRACING: &str = "/sys/kernel/tracing";
const AT_ENTRY: u64 = 9;

/// Where the code of a target's program is.
pub struct Text {
    pid: i32,
    program: String,
    /// In its memory: the mapping, and the first instruction.
    start: u64,
    end: u64,
    entry: u64,
    /// In the file, of the mapping.
    offset: u64,
}

impl Text {
    /// By its mappings and its auxiliary vector.
    pub fn of(target: &Target) -> Self {
        let pid = target.pid();
        let auxv = fs::read(format!("/proc/{pid}/auxv")).unwrap();
        let (words, []) = auxv.as_chunks() else {
            panic!("words")
        };
        let (pairs, _) = words.as_chunks();
        let entry = pairs
            .iter()
            .map(|pair: &[_; 2]| pair.map(u64::from_ne_bytes))
            .find(|[kind, _]| *kind == AT_ENTRY)
            .expect("the kernel says so")[1];
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.lines()
            .map(|line| Self::parse(pid, entry, line))
            .find(|text| (text.start..text.end).contains(&entry))
            .expect("it is mapped")
    }

    /// A line of `/proc/PID/maps`: `start-end rwxp offset device inode path`.
    fn parse(pid: i32, entry: u64, line: &str) -> Self {
        let mut fields = line.split_ascii_whitespace();
        let hex = |field: &str| u64::from_str_radix(field, 16).expect("hexadecimal");
        let (start, end) = fields
            .next()
            .and_then(|range| range.split_once('-'))
            .expect("a range");
        Self {
            pid,
            entry,
            start: hex(start),
            end: hex(end),
            offset: hex(fields.nth(1).expect("an offset")),
            program: fields.nth(2).unwrap_or_default().to_owned(),
        }
    }

    /// Gives the mapping a page of its own, as it was, beside the one where the program begins.
    pub fn touch(&self) {
        let own = (self.start..self.end)
            .step_by(usize::try_from(PAGE).unwrap())
            .find(|page| *page != self.entry / PAGE * PAGE)
            .expect("it has several pages");
        let memory = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/mem", self.pid))
            .unwrap();
        let mut byte = [0];
        memory.read_exact_at(&mut byte, own).unwrap();
        memory.write_all_at(&byte, own).unwrap();
    }
}

/// A uprobe where a program begins: the kernel writes a breakpoint into a page of its own.
pub struct Probe;

impl Probe {
    /// Puts it there.
    pub fn at_entry(text: &Text) -> Self {
        sh(&format!(
            "mountpoint -q {TRACING} || mount -t tracefs tracefs {TRACING}"
        ));
        let at = text.entry - text.start + text.offset;
        tell(&format!("p:freezeframe/entry {}:{at:#x}", text.program));
        fs::write(format!("{TRACING}/events/freezeframe/entry/enable"), "1").expect("and puts it there");
        // A page that waits for its LRU list has a reference more, and what somebody has a reference to is copied; that drains them.
        fs::write("/proc/sys/vm/compact_memory", "1").expect("it compacts");
        Self
    }
}

/// Behind what was told before: from the start it would be in place of that.
fn tell(line: &str) {
    let mut events = File::options()
        .append(true)
        .open(format!("{TRACING}/uprobe_events"))
        .expect("the kernel has uprobes");
    events
        .write_all(line.as_bytes())
        .unwrap_or_else(|error| panic!("{line}: {error}"));
}

impl Drop for Probe {
    fn drop(&mut self) {
        fs::write(format!("{TRACING}/events/freezeframe/entry/enable"), "0")
            .expect("the kernel takes it away");
        tell("-:freezeframe/entry");
    }
}
