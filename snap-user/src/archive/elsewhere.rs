//! `NT_FREEZEFRAME_ELSEWHERE`: which pages are not in a core, and where they are.

/// Bytes of one record.
pub const RECORD_BYTES: usize = 32;

/// Where pages lie that are not in their own core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a core of the same archive, which holds them itself.
    SameArchive = 1,
    /// In a core of the parent, which may send one on.
    Parent = 2,
}

/// Pages that lie elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Their first address here.
    pub vaddr: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Their first address there.
    pub vaddr_there: u64,
    /// The process whose core has them.
    pub pid_there: i32,
    /// In which archive.
    pub place: Place,
}

impl Elsewhere {
    /// The record as it stands in the note.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&self.vaddr.to_le_bytes());
        record[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        record[16..24].copy_from_slice(&self.vaddr_there.to_le_bytes());
        record[24..28].copy_from_slice(&self.pid_there.to_le_bytes());
        record[28..].copy_from_slice(&(self.place as u32).to_le_bytes());
        record
    }

    /// Reads a record; nothing: its place is unknown.
    #[must_use]
    pub fn from_bytes(record: &[u8; RECORD_BYTES]) -> Option<Self> {
        let [vaddr, bytes, vaddr_there, last] = record.as_chunks::<8>().0 else {
            return None;
        };
        let place = match last[4..] {
            [1, 0, 0, 0] => Place::SameArchive,
            [2, 0, 0, 0] => Place::Parent,
            _ => return None,
        };
        Some(Self {
            vaddr: u64::from_le_bytes(*vaddr),
            bytes: u64::from_le_bytes(*bytes),
            vaddr_there: u64::from_le_bytes(*vaddr_there),
            pid_there: i32::from_le_bytes([last[0], last[1], last[2], last[3]]),
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Elsewhere, Place};

    #[test]
    fn a_record_reads_as_it_was_written() {
        let record = Elsewhere {
            vaddr: 0x7000_0000_1000,
            bytes: 0x2000,
            vaddr_there: 0x5000,
            pid_there: 42,
            place: Place::Parent,
        };
        let mut bytes = record.to_bytes();
        assert_eq!(Elsewhere::from_bytes(&bytes), Some(record));
        assert_eq!(bytes[28..], [2, 0, 0, 0]);
        bytes[28] = 3;
        assert_eq!(Elsewhere::from_bytes(&bytes), None);
    }
}
