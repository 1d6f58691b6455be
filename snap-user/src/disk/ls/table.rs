//! The list for people.

use std::fmt::Write as _;

use crate::disk::ls::{DeviceEntry, Listing, Shown, SnapshotEntry, StoreHealth};
use crate::disk::union::life as union;
use crate::report::bytes;

impl Listing {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        if self.snapshots.is_empty() && self.unions.is_empty() {
            text.push_str("no snapshots on disk\n");
        } else {
            text.push_str("ID        TAKEN                STATE        ON                        STORE               OUTLOOK\n");
        }
        for entry in &self.snapshots {
            for (index, device) in entry.devices.iter().enumerate() {
                let (id, taken, state) = if index == 0 {
                    (entry.id.as_str(), utc(entry.instant_unix_ns), entry.state.name())
                } else {
                    ("", String::new(), "")
                };
                let place = device.mounts.first().unwrap_or(&device.top);
                // Writing to a String does not fail.
                let _ = writeln!(
                    text,
                    "{id:<8}  {taken:<19}  {state:<11}  {place:<24}  {:<18}  {}",
                    device.fill(),
                    device.outlook(entry)
                );
            }
        }
        self.add_unions(&mut text);
        for store in &self.stores {
            let _ = writeln!(
                text,
                "store {}: {}, {} free",
                store.device,
                bytes(store.bytes),
                bytes(store.free_bytes)
            );
        }
        text
    }
}

impl Listing {
    fn add_unions(&self, text: &mut String) {
        for entry in &self.unions {
            let outlook = match entry.state {
                union::Shown::Armed => "a take is under way".to_owned(),
                union::Shown::Abandoned => format!("not whole: `freezeframe discard {}`", entry.id),
                union::Shown::Active => "in memory: gone when the machine stops".to_owned(),
            };
            for (index, lower) in entry.filesystems.iter().enumerate() {
                let (id, taken, state) = if index == 0 {
                    (entry.id.as_str(), utc(entry.instant_unix_ns), entry.state.name())
                } else {
                    ("", String::new(), "")
                };
                let _ = writeln!(
                    text,
                    "{id:<8}  {taken:<19}  {state:<11}  {:<24}  {:<18}  {outlook}",
                    lower.mount,
                    fill(lower.used_bytes, lower.total_bytes),
                );
            }
        }
    }
}

fn fill(used_bytes: u64, total_bytes: u64) -> String {
    let percent = u128::from(used_bytes) * 100 / u128::from(total_bytes.max(1));
    format!("{percent} % of {}", bytes(total_bytes))
}

impl Shown {
    fn name(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Abandoned => "abandoned",
            Self::Active => "active",
            Self::Down => "down",
            Self::Bypassed => "bypassed",
            Self::Merging => "merging",
            Self::Interrupted => "interrupted",
            Self::Discarding => "discarding",
        }
    }
}

impl DeviceEntry {
    fn fill(&self) -> String {
        fill(self.used_bytes, self.total_bytes)
    }

    fn outlook(&self, entry: &SnapshotEntry) -> String {
        let id = &entry.id;
        match self.store {
            StoreHealth::Overflow => {
                return format!(
                    "OVERFLOWED: writers get errors; unmount, `freezeframe extend {id}` or `discard {id}`"
                );
            }
            StoreHealth::Invalid => {
                return format!("INVALID: what was written is lost; unmount, `freezeframe discard {id}`");
            }
            StoreHealth::MergeFailed => return format!("MERGE FAILED: see dmesg; `freezeframe commit {id}`"),
            StoreHealth::Merged => return "merged".to_owned(),
            StoreHealth::Ok | StoreHealth::Unused => {}
        }
        match entry.state {
            Shown::Abandoned => format!("nothing was switched: `freezeframe discard {id}`"),
            Shown::Down => "`freezeframe layer up`".to_owned(),
            Shown::Bypassed => format!(
                "started without its store, as at the instant: `freezeframe discard {id}` (see docs/disk.md)"
            ),
            Shown::Interrupted => format!("go on with `freezeframe commit {id}`"),
            Shown::Merging => format!("ended by `freezeframe commit {id}`"),
            Shown::Armed | Shown::Discarding => String::new(),
            Shown::Active if !self.can_overflow => "cannot overflow".to_owned(),
            Shown::Active => match self.seconds_to_overflow {
                Some(seconds) => format!("full in {seconds} s at {}/s", bytes(self.bytes_per_second)),
                None => "may overflow; nothing is written now".to_owned(),
            },
        }
    }
}

/// `2026-01-31 12:00:00`, in UTC.
fn utc(unix_ns: u64) -> String {
    if unix_ns == 0 {
        return "-".to_owned();
    }
    let seconds = unix_ns / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0: leap days come last in a year then.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{date:02} {:02}:{:02}:{:02}",
        era * 400 + year + carry,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::{union, utc};
    use crate::disk::ls::{DeviceEntry, Listing, Shown, SnapshotEntry, StoreHealth};
    use crate::disk::record::AtShutdown;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "-");
        assert_eq!(utc(1_000_000_000_000_000_000), "2001-09-09 01:46:40");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_735_689_599_000_000_000), "2024-12-31 23:59:59");
        assert_eq!(utc(1_798_761_600_000_000_000), "2027-01-01 00:00:00");
    }

    #[test]
    fn the_table_says_how_long_it_lasts() {
        let mut device = DeviceEntry {
            top: "ff-x".to_owned(),
            origin: None,
            mounts: vec!["/srv".to_owned()],
            filesystem: None,
            store: StoreHealth::Ok,
            used_bytes: 1 << 20,
            total_bytes: 4 << 20,
            can_overflow: true,
            bytes_per_second: 1 << 20,
            seconds_to_overflow: Some(3),
        };
        let table = |device: &DeviceEntry| {
            Listing {
                stores: Vec::new(),
                snapshots: vec![SnapshotEntry {
                    id: "00c0ffee".to_owned(),
                    state: Shown::Active,
                    store: "/dev/sdc".to_owned(),
                    created_unix_ms: 1,
                    instant_unix_ns: 1,
                    targets: Vec::new(),
                    at_shutdown: AtShutdown::Keep,
                    devices: vec![device.clone()],
                }],
                unions: Vec::new(),
            }
            .table()
        };
        assert!(
            table(&device).contains("25 % of 4.0 MiB     full in 3 s at 1.0 MiB/s"),
            "{}",
            table(&device)
        );
        device.can_overflow = false;
        assert!(table(&device).contains("cannot overflow"));
        device.store = StoreHealth::Overflow;
        assert!(table(&device).contains("OVERFLOWED"));
    }

    #[test]
    fn unions_are_listed_too() {
        let table = Listing {
            stores: Vec::new(),
            snapshots: Vec::new(),
            unions: vec![union::UnionEntry {
                id: "00c0ffee".to_owned(),
                kind: "union",
                state: union::Shown::Active,
                created_unix_ms: 1,
                instant_unix_ns: 0,
                targets: Vec::new(),
                filesystems: vec![union::LowerEntry {
                    mount: "/srv".to_owned(),
                    kind: "ext4".to_owned(),
                    origin: "/run/x".into(),
                    used_bytes: 1 << 20,
                    total_bytes: 4 << 20,
                }],
            }],
        }
        .table();
        assert!(table.contains("union        /srv "), "{table}");
        assert!(table.contains("25 % of 4.0 MiB     in memory"), "{table}");
    }
}
