//! What a store tells about its snapshots, and the names and sizes that follow from it.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Everything in a store's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreState {
    /// Given when the store was made.
    pub uuid: String,
    /// The store's size.
    pub sectors: u64,
    /// The snapshots that have slices of it.
    pub snapshots: Vec<Record>,
}

/// One snapshot. Done (committed or discarded) means removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Eight lower-case hex digits.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// When the record was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The instant, in nanoseconds since 1970; 0 until it is taken.
    pub instant_unix_ns: u64,
    /// The processes that were snapshotted with it.
    pub targets: Vec<i32>,
    /// What becomes of it when the machine shuts down in order.
    pub at_shutdown: AtShutdown,
    /// The devices, in the order of their numbers N.
    pub devices: Vec<DeviceRecord>,
}

/// How far a snapshot is. Each state is on disk before the switch that it announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// About to be switched to the store.
    Armed,
    /// Switched: what is written goes to the store.
    Active,
    /// The store is being merged into the origin, which is neither old nor new meanwhile.
    Merging,
    /// Given up: the top returns to the origin, and what was written is lost.
    Discarding,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Armed => "armed",
            Self::Active => "active",
            Self::Merging => "merging",
            Self::Discarding => "discarding",
        })
    }
}

/// What becomes of a snapshot when the machine shuts down in order. A crash keeps it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtShutdown {
    /// The next start is from the origin.
    Discard,
    /// It goes on after the next start.
    Keep,
}

/// One device of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// The dm name of the device that the filesystem sits on.
    pub top: String,
    /// Its dm uuid; may be empty.
    pub top_uuid: String,
    /// Its size.
    pub sectors: u64,
    /// What is copied at once.
    pub chunk_sectors: u32,
    /// The table that it had, and gets back. Devices are paths that last, where there are any.
    pub table: Vec<TableLine>,
    /// Its slice of the store.
    pub extents: Vec<Extent>,
    /// What is on it.
    pub filesystem: Option<FsRecord>,
    /// Merged back already, while others of the same snapshot may not be.
    pub merged: bool,
}

/// One line of a dm table, as `dmsetup table` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLine {
    /// The first sector.
    pub start: u64,
    /// How many.
    pub sectors: u64,
    /// The target.
    pub kind: String,
    /// Its parameters; from a status, what it reports.
    pub params: String,
}

impl fmt::Display for TableLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} {} {}",
            self.start, self.sectors, self.kind, self.params
        )
    }
}

/// A piece of the store, in sectors of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extent {
    /// The first sector.
    pub start: u64,
    /// How many.
    pub sectors: u64,
}

impl Extent {
    /// The first sector behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.sectors)
    }
}

/// Where a slice's sector lies on the store. `None`: behind the slice's end.
#[must_use]
pub fn place(extents: &[Extent], mut sector: u64) -> Option<u64> {
    for extent in extents {
        if sector < extent.sectors {
            return extent.start.checked_add(sector);
        }
        sector -= extent.sectors;
    }
    None
}

/// A filesystem on a top.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsRecord {
    /// Its type.
    pub kind: String,
    /// Its uuid; may be empty.
    pub uuid: String,
    /// Where it was mounted.
    pub mount: String,
}

impl StoreState {
    /// A snapshot by its whole ID.
    #[must_use]
    pub fn record(&self, id: &str) -> Option<&Record> {
        self.snapshots.iter().find(|record| record.id == id)
    }

    /// The same, to change it.
    pub fn record_mut(&mut self, id: &str) -> Option<&mut Record> {
        self.snapshots.iter_mut().find(|record| record.id == id)
    }

    /// Forgets a snapshot; its slices are free.
    pub fn remove(&mut self, id: &str) {
        self.snapshots.retain(|record| record.id != id);
    }
}

impl Record {
    /// The dm name and uuid of the N-th device's origin.
    #[must_use]
    pub fn origin(&self, index: usize) -> DmIdentity {
        DmIdentity::new("origin", &self.id, index)
    }

    /// The dm name and uuid of the N-th device's slice of the store.
    #[must_use]
    pub fn store(&self, index: usize) -> DmIdentity {
        DmIdentity::new("store", &self.id, index)
    }

    /// The dm name and uuid of what the N-th device's origin is mounted through.
    #[must_use]
    pub fn view(&self, index: usize) -> DmIdentity {
        DmIdentity::new("view", &self.id, index)
    }
}

impl DeviceRecord {
    /// Sectors of its slice.
    #[must_use]
    pub fn store_sectors(&self) -> u64 {
        self.extents.iter().map(|extent| extent.sectors).sum()
    }

    /// Whether more may be written than its slice takes.
    #[must_use]
    pub fn can_overflow(&self) -> bool {
        self.store_sectors() < full_store_sectors(self.sectors, self.chunk_sectors)
    }

    /// The table of the top while it has a snapshot (`snapshot`) or is merged back (`snapshot-merge`).
    #[must_use]
    pub fn snapshot_table(
        &self,
        kind: &str,
        origin: impl fmt::Display,
        store: impl fmt::Display,
    ) -> TableLine {
        TableLine {
            start: 0,
            sectors: self.sectors,
            kind: kind.to_owned(),
            // PO: persistent, and when it is full writers get an error and nothing else is lost.
            params: format!("{origin} {store} PO {}", self.chunk_sectors),
        }
    }

    /// The table of the top between two that must not meet: nobody can read, write or mount it.
    #[must_use]
    pub fn blocked_table(&self) -> TableLine {
        TableLine {
            start: 0,
            sectors: self.sectors,
            kind: "error".to_owned(),
            params: String::new(),
        }
    }

    /// The table of its slice, on the store's device.
    #[must_use]
    pub fn store_table(&self, device: impl fmt::Display) -> Vec<TableLine> {
        let mut start = 0;
        self.extents
            .iter()
            .map(|extent| {
                let line = TableLine {
                    start,
                    sectors: extent.sectors,
                    kind: "linear".to_owned(),
                    params: format!("{device} {}", extent.start),
                };
                start += extent.sectors;
                line
            })
            .collect()
    }
}

/// How the device mapper knows one of our devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmIdentity {
    /// The name, in `/dev/mapper` too.
    pub name: String,
    /// The uuid, by which we know it as ours.
    pub uuid: String,
}

impl DmIdentity {
    fn new(role: &str, id: &str, index: usize) -> Self {
        Self {
            name: format!("ff-{role}-{id}-{index}"),
            uuid: format!("{UUID_PREFIX}{role}-{id}-{index}"),
        }
    }

    /// The ID of the snapshot whose slice of the store bears this uuid. `None`: it is something else.
    #[must_use]
    pub fn snapshot_of_store(uuid: &str) -> Option<&str> {
        let rest = uuid.strip_prefix(UUID_PREFIX)?.strip_prefix("store-")?;
        let (id, index) = rest.split_once('-')?;
        index.parse::<usize>().is_ok().then_some(id)
    }

    /// A layer's.
    #[must_use]
    pub fn layer(name: &str) -> Self {
        Self {
            name: format!("ff-{name}"),
            uuid: format!("{UUID_PREFIX}layer-{name}"),
        }
    }
}

/// What the dm uuids of all our devices begin with.
pub const UUID_PREFIX: &str = "FREEZEFRAME-";

/// A new snapshot's ID.
#[must_use]
pub fn new_id() -> String {
    Uuid::new_v4().simple().to_string()[..8].to_owned()
}

/// A new store's uuid.
#[must_use]
pub fn new_uuid() -> String {
    Uuid::new_v4().to_string()
}

/// Sectors of a slice that cannot overflow, for an origin of that size.
///
/// One chunk of header; then areas of one metadata chunk and as many data chunks as it has entries of 16 bytes. The area
/// behind a full one is cleared at once, so it must exist even when nothing more can come
/// (`persistent_commit_exception` in drivers/md/dm-snap-persistent.c).
#[must_use]
pub fn full_store_sectors(origin_sectors: u64, chunk_sectors: u32) -> u64 {
    let chunk = u64::from(chunk_sectors.max(1));
    let data = origin_sectors.div_ceil(chunk);
    let per_area = chunk * crate::disk::blockdev::SECTOR / 16;
    (1 + data + data / per_area + 1) * chunk
}

/// How many sectors of an origin can change before a slice of that size overflows.
#[must_use]
pub fn store_capacity_sectors(store_sectors: u64, chunk_sectors: u32) -> u64 {
    let chunk = u64::from(chunk_sectors.max(1));
    let per_area = chunk * crate::disk::blockdev::SECTOR / 16;
    let areas = (store_sectors / chunk).saturating_sub(1);
    (areas - areas.div_ceil(per_area + 1)) * chunk
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{
        AtShutdown, DeviceRecord, DmIdentity, Extent, Record, State, TableLine, full_store_sectors, new_id,
        place, store_capacity_sectors,
    };

    /// A snapshot of two: of a layer `ff-x`, and of a `data` that is none.
    pub(crate) fn record_of_two(state: State) -> Record {
        let mut record = record("00c0ffee", &[]);
        record.state = state;
        let mut other = record.devices[0].clone();
        other.top = "data".to_owned();
        other.top_uuid = String::new();
        record.devices.push(other);
        record
    }

    /// A snapshot of one device of 1 GiB.
    pub(crate) fn record(id: &str, extents: &[Extent]) -> Record {
        Record {
            id: id.to_owned(),
            state: State::Active,
            created_unix_ms: 1,
            instant_unix_ns: 2,
            targets: vec![3],
            at_shutdown: AtShutdown::Discard,
            devices: vec![DeviceRecord {
                top: "ff-x".to_owned(),
                top_uuid: "FREEZEFRAME-layer-x".to_owned(),
                sectors: 1 << 21,
                chunk_sectors: 8,
                table: vec![TableLine {
                    start: 0,
                    sectors: 1 << 21,
                    kind: "linear".to_owned(),
                    params: "/dev/sdb1 0".to_owned(),
                }],
                extents: extents.to_vec(),
                filesystem: None,
                merged: false,
            }],
        }
    }

    #[test]
    fn a_slice_tells_whose_it_is() {
        let slice = record("00c0ffee", &[]).store(12);
        assert_eq!(DmIdentity::snapshot_of_store(&slice.uuid), Some("00c0ffee"));
        for other in [
            "",
            "FREEZEFRAME-origin-00c0ffee-0",
            "FREEZEFRAME-layer-store-a-0",
            "FREEZEFRAME-store-x",
        ] {
            assert_eq!(DmIdentity::snapshot_of_store(other), None, "{other}");
        }
    }

    #[test]
    fn ids_are_short_and_differ() {
        let id = new_id();
        assert_eq!(id.len(), 8);
        assert!(
            id.bytes()
                .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
        );
        assert_ne!(id, new_id());
        assert_eq!(record(&id, &[]).origin(1).name, format!("ff-origin-{id}-1"));
        assert_eq!(DmIdentity::layer("srv").uuid, "FREEZEFRAME-layer-srv");
    }

    #[test]
    fn a_full_store_has_room_for_all_areas_and_one_more() {
        // 256 entries per metadata chunk of 4 KiB. 256 data chunks fill the first area; the second is cleared then.
        assert_eq!(full_store_sectors(256 * 8, 8), (1 + 1 + 256 + 1) * 8);
        assert_eq!(full_store_sectors(255 * 8, 8), (1 + 1 + 255) * 8);
        assert_eq!(full_store_sectors(255 * 8 + 1, 8), (1 + 1 + 256 + 1) * 8);
        // 1 GiB: 0.4 % more.
        assert_eq!(full_store_sectors(1 << 21, 8), (1 << 21) + (1 + 1024 + 1) * 8);
    }

    #[test]
    fn a_slice_says_what_it_takes() {
        assert_eq!(store_capacity_sectors(0, 8), 0);
        assert_eq!(store_capacity_sectors(8, 8), 0);
        assert_eq!(store_capacity_sectors(24, 8), 8);
        for origin in [8, 2048, 2056, 1 << 21] {
            let takes = store_capacity_sectors(full_store_sectors(origin, 8), 8);
            assert!(takes >= origin, "{origin}: {takes}");
        }
    }

    #[test]
    fn tables_name_their_devices() {
        let extents = [
            Extent {
                start: 2048,
                sectors: 4096,
            },
            Extent {
                start: 10240,
                sectors: 2048,
            },
        ];
        let record = record("00c0ffee", &extents);
        let device = &record.devices[0];
        assert_eq!(
            device.snapshot_table("snapshot", "253:1", "253:2").to_string(),
            "0 2097152 snapshot 253:1 253:2 PO 8"
        );
        let lines: Vec<_> = device
            .store_table("8:16")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lines, ["0 4096 linear 8:16 2048", "4096 2048 linear 8:16 10240"]);
        assert_eq!(device.blocked_table().to_string(), "0 2097152 error ");
        assert_eq!(device.store_sectors(), 6144);
        assert!(device.can_overflow());
    }

    #[test]
    fn a_slice_is_counted_through_its_extents() {
        let extent = |start, sectors| Extent { start, sectors };
        let extents = [extent(8192, 2048), extent(2048, 4096)];
        assert_eq!(place(&extents, 0), Some(8192));
        assert_eq!(place(&extents, 2047), Some(8192 + 2047));
        assert_eq!(place(&extents, 2048), Some(2048));
        assert_eq!(place(&extents, 6143), Some(2048 + 4095));
        assert_eq!(place(&extents, 6144), None);
        assert_eq!(place(&[], 0), None);
    }

    #[test]
    fn the_json_is_what_is_documented() {
        let json = serde_json::to_string(&record("00c0ffee", &[])).unwrap();
        assert!(json.contains(r#""state":"active""#), "{json}");
        assert!(json.contains(r#""at_shutdown":"discard""#), "{json}");
        assert_eq!(
            serde_json::from_str::<Record>(&json).unwrap(),
            record("00c0ffee", &[])
        );
    }
}
