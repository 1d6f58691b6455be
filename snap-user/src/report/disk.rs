//! The disk's half of a report.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use snap_common::abi;

use super::{bytes, duration};
use crate::disk::openfiles::{self, OpenFile};

/// Filesystems that froze with the processes, and devices that were switched. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// By which `ls`, `origin`, `commit` and `discard` know it. `None`: nothing was switched.
    pub id: Option<String>,
    /// From the first filesystem that began to freeze to the last one thawed: how long writers stood.
    pub write_window_ns: u64,
    /// In the order in which they froze.
    pub filesystems: Vec<FsReport>,
    /// In the order in which they were switched.
    pub devices: Vec<DeviceReport>,
    /// The filesystems that are read-only from now on, with an overlay over each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unions: Vec<UnionReport>,
}

/// One filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsReport {
    /// Where it is mounted.
    pub mount: String,
    /// Its type.
    pub kind: String,
    /// What was mounted there.
    pub device: String,
    /// How long it took to write back what was dirty, before the write window.
    pub sync_ns: u64,
    /// How long it took to freeze, in the write window.
    pub freeze_ns: u64,
    /// How long it took to thaw.
    pub thaw_ns: u64,
    /// 4 KiB pages written back before the write window.
    pub sync_pages: u64,
    /// 4 KiB pages written back in it, while the filesystem froze.
    pub freeze_pages: u64,
    /// Where it has no freezing of its own: what being read-only for the instant meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<ReadOnlyReport>,
}

/// What it meant that a filesystem was read-only for the instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnlyReport {
    /// Open files, each once, that could not be written to by their descriptors.
    pub downgraded: u32,
    /// Those open for writing that no descriptor showed: their writers waited.
    pub unseen: u32,
    /// Shared mappings that could be written through, and still could.
    pub mappings: u32,
    /// Descriptors that were open for writing shortly before: the first of them.
    pub writers: Vec<OpenFile>,
    /// How many more there were.
    pub more_writers: usize,
}

/// A filesystem that is read-only from now on, with an overlay over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnionReport {
    /// By which `ls`, `origin` and `discard` know it.
    pub id: String,
    /// Where it is mounted.
    pub mount: String,
    /// Where it is as it was.
    pub origin: String,
}

impl ReadOnlyReport {
    /// Reads what the module reported.
    #[must_use]
    pub fn new(raw: &abi::Fs, writers: &[OpenFile]) -> Self {
        Self {
            downgraded: raw.downgraded,
            unseen: raw.unseen,
            mappings: raw.mappings,
            writers: writers.iter().take(openfiles::NAMED).cloned().collect(),
            more_writers: writers.len().saturating_sub(openfiles::NAMED),
        }
    }

    fn lines(&self) -> String {
        let mut text = format!(
            "      read-only for that long: {} open files lost their write access and got it back",
            self.downgraded
        );
        // Writing to a String cannot fail.
        if self.unseen > 0 {
            let _ = write!(text, "; the writers of {} more waited", self.unseen);
        }
        if self.mappings > 0 {
            let _ = write!(
                text,
                "; stores through {} shared mappings went on, but for those of the processes that stood still",
                self.mappings
            );
        }
        for file in &self.writers {
            let fd = file.fd.unwrap_or_default();
            let _ = write!(
                text,
                "\n        {} ({}), descriptor {fd}: {}",
                file.pid, file.name, file.path
            );
        }
        if self.more_writers > 0 {
            let _ = write!(text, "\n        and {} more", self.more_writers);
        }
        text.push('\n');
        text
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its dm name.
    pub top: String,
    /// How long it took until no I/O was under way.
    pub suspend_ns: u64,
    /// How long the swap of its table took, and the resume.
    pub switch_ns: u64,
    /// Bytes of the store that it has.
    pub store_bytes: u64,
    /// Whether more may be written to it than the store takes.
    pub can_overflow: bool,
    /// How much may be written before it overflows.
    pub overflows_after_bytes: Option<u64>,
}

fn length(stamp: &abi::Stamp) -> u64 {
    stamp.end_ns.saturating_sub(stamp.begin_ns)
}

impl FsReport {
    /// Reads what the module reported.
    #[must_use]
    pub fn new(mount: &str, kind: &str, device: &str, raw: &abi::Fs) -> Self {
        Self {
            mount: mount.to_owned(),
            kind: kind.to_owned(),
            device: device.to_owned(),
            sync_ns: length(&raw.sync),
            freeze_ns: length(&raw.freeze),
            thaw_ns: length(&raw.thaw),
            sync_pages: raw.sync_pages,
            freeze_pages: raw.freeze_pages,
            read_only: None,
        }
    }
}

impl DeviceReport {
    /// Reads what the module reported.
    #[must_use]
    pub fn new(top: &str, raw: &abi::Switch, store_bytes: u64, overflows_after_bytes: Option<u64>) -> Self {
        Self {
            top: top.to_owned(),
            suspend_ns: length(&raw.suspend),
            switch_ns: length(&raw.swap),
            store_bytes,
            can_overflow: overflows_after_bytes.is_some(),
            overflows_after_bytes,
        }
    }
}

impl DiskReport {
    /// The lines for people. The filesystem that made the write window long stands out by its figure: time and pages.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!("  write window  {:>10}\n", duration(self.write_window_ns));
        for filesystem in &self.filesystems {
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "    {} ({}): froze in {} with {} left to write, thawed in {}; {} written before, in {}",
                filesystem.mount,
                filesystem.kind,
                duration(filesystem.freeze_ns),
                bytes(filesystem.freeze_pages * 4096),
                duration(filesystem.thaw_ns),
                bytes(filesystem.sync_pages * 4096),
                duration(filesystem.sync_ns),
            );
            if let Some(read_only) = &filesystem.read_only {
                table.push_str(&read_only.lines());
            }
        }
        for device in &self.devices {
            let room = device.overflows_after_bytes.map_or_else(
                || "which cannot overflow".to_owned(),
                |after| format!("room for {} of changes", bytes(after)),
            );
            let _ = writeln!(
                table,
                "    {}: suspended in {}, switched in {}; a store of {}, {room}",
                device.top,
                duration(device.suspend_ns),
                duration(device.switch_ns),
                bytes(device.store_bytes),
            );
        }
        for union in &self.unions {
            let _ = writeln!(
                table,
                "    {}: read-only beneath from now on, as it was at {}; what is written is in memory",
                union.mount, union.origin
            );
        }
        if let Some(union) = self.unions.first() {
            let _ = writeln!(
                table,
                "  union         {id}: `freezeframe origin {id} --mount DIR` or `discard {id}`; it goes when the machine stops",
                id = union.id
            );
        }
        if let Some(id) = &self.id {
            let _ = writeln!(
                table,
                "  disk          snapshot {id}: `freezeframe origin {id} --mount DIR`, `commit {id}` or `discard {id}`"
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use snap_common::abi;

    use super::{DeviceReport, DiskReport, FsReport, ReadOnlyReport, UnionReport};
    use crate::disk::openfiles::OpenFile;

    fn report() -> DiskReport {
        // SAFETY: made of integers alone.
        let (mut fs, mut switch): (abi::Fs, abi::Switch) = unsafe { std::mem::zeroed() };
        fs.freeze = abi::Stamp {
            begin_ns: 1_000,
            end_ns: 42_001_000,
        };
        fs.freeze_pages = 256;
        switch.swap.end_ns = 3_000_000;
        DiskReport {
            id: Some("1a2b3c4d".into()),
            write_window_ns: 50_000_000,
            filesystems: vec![FsReport::new("/srv", "ext4", "/dev/mapper/ff-srv", &fs)],
            devices: vec![DeviceReport::new("ff-srv", &switch, 1 << 30, None)],
            unions: vec![UnionReport {
                id: "00c0ffee".into(),
                mount: "/srv/static".into(),
                origin: "/run/freezeframe/union-00c0ffee/0.lower".into(),
            }],
        }
    }

    #[test]
    fn the_table_says_which_filesystem_took_how_long_and_why() {
        let table = report().table();
        assert!(
            table.contains("/srv (ext4): froze in 42.00 ms with 1.0 MiB left to write"),
            "{table}"
        );
        assert!(
            table.contains("ff-srv: suspended in 0 ns, switched in 3.00 ms"),
            "{table}"
        );
        assert!(table.contains("commit 1a2b3c4d"), "{table}");
        assert!(table.contains("discard 00c0ffee"), "{table}");
    }

    #[test]
    fn what_lost_its_write_access_is_named() {
        let mut report = report();
        // SAFETY: made of integers alone.
        let mut fs: abi::Fs = unsafe { std::mem::zeroed() };
        (fs.downgraded, fs.unseen, fs.mappings) = (60, 1, 2);
        let file = OpenFile {
            pid: 7,
            name: "cat".into(),
            fd: Some(3),
            path: "/dev/shm/x".into(),
        };
        report.filesystems[0].read_only = Some(ReadOnlyReport::new(&fs, &vec![file; 60]));
        let table = report.table();
        for words in [
            "60 open files",
            "of 1 more waited",
            "2 shared mappings",
            "7 (cat), descriptor 3: /dev/shm/x",
            "and 10 more",
        ] {
            assert!(table.contains(words), "{words}: {table}");
        }
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["id"], "1a2b3c4d");
        assert_eq!(json["filesystems"][0]["freeze_ns"], 42_000_000);
        assert_eq!(json["devices"][0]["can_overflow"], false);
    }
}
