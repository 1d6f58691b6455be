//! The disk's half of a report.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use snap_common::abi;

use super::{bytes, duration};

/// Filesystems that froze with the processes, and devices that were switched. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// By which `ls`, `origin`, `commit` and `discard` know it. `None`: nothing was switched.
    pub id: Option<String>,
    /// From the first filesystem that began to freeze to the last one thawed: how long writers stood.
    pub write_window_ns: u64,
    /// In the order in which they froze.
    pub filesystems: Vec<FsReport>,
    /// In the order in which they were switched.
    pub devices: Vec<DeviceReport>,
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

    use super::{DeviceReport, DiskReport, FsReport};

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
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["id"], "1a2b3c4d");
        assert_eq!(json["filesystems"][0]["freeze_ns"], 42_000_000);
        assert_eq!(json["devices"][0]["can_overflow"], false);
    }
}
