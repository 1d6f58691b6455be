//! How a store's header lies on disk: two slots that are written in turn, so that a write that is cut off costs nothing but
//! itself.
//!
//! A slot: 16 bytes of magic, then little-endian `u32` version, `u32` length, `u64` sequence, 32 bytes of BLAKE3 over those
//! three numbers and the JSON, and the JSON.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::disk::record::StoreState;

/// What a store begins with.
pub const MAGIC: &[u8; 16] = b"FREEZEFRAMESTORE";
/// Bytes of one slot.
pub const SLOT: usize = 64 * 1024;

/// The sequence number of a new store's first slot, slot 1. Every later one has a slot 0 beside it.
const FIRST: u64 = 1;
const VERSION: u32 = 1;
const FIXED: usize = 64;
/// The most that is written in one piece anywhere.
const BLOCK: usize = 4096;

/// What the two slots hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The newest state, and its sequence number.
    State(Box<StoreState>, u64),
    /// Neither slot begins as a store does.
    Nothing,
    /// Slot 0 holds something else, and slot 1 this state, which was not written without a slot 0 of ours: the device was a
    /// store, and has been given to something else.
    Former(Box<StoreState>),
    /// At least one does, and none is whole.
    Damaged,
    /// Both are of a version that we do not know.
    Newer(u32),
}

/// The slot's bytes. `None`: it is too much for a slot.
#[must_use]
pub fn encode(state: &StoreState, sequence: u64) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(state).ok()?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|_| FIXED + json.len() <= SLOT)?;
    let mut bytes = Vec::with_capacity(SLOT);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(checksum(&bytes[MAGIC.len()..], &json).as_bytes());
    bytes.extend_from_slice(&json);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Some(bytes)
}

fn checksum(numbers: &[u8], json: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(numbers).update(json).finalize()
}

fn decode(slot: &[u8]) -> Found {
    let Some(rest) = slot.strip_prefix(MAGIC) else {
        return Found::Nothing;
    };
    let whole = || {
        let (numbers, rest) = rest.split_at_checked(16)?;
        let (hash, rest) = rest.split_at_checked(32)?;
        let version = u32::from_le_bytes(numbers[..4].try_into().ok()?);
        let length = u32::from_le_bytes(numbers[4..8].try_into().ok()?);
        let sequence = u64::from_le_bytes(numbers[8..].try_into().ok()?);
        let json = rest.get(..usize::try_from(length).ok()?)?;
        if checksum(numbers, json).as_bytes() != hash {
            return None;
        }
        if version != VERSION {
            return Some(Found::Newer(version));
        }
        let state = serde_json::from_slice(json).ok()?;
        Some(Found::State(Box::new(state), sequence))
    };
    whole().unwrap_or(Found::Damaged)
}

/// Reads both slots.
///
/// # Errors
///
/// When the device cannot be read. One that is too short holds nothing.
pub fn read(file: &File) -> io::Result<Found> {
    let mut bytes = vec![0; 2 * SLOT];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Found::Nothing),
        other => other?,
    }
    let (first, second) = bytes.split_at(SLOT);
    Ok(match (decode(first), decode(second)) {
        (Found::State(a, one), Found::State(b, two)) => {
            if one > two {
                Found::State(a, one)
            } else {
                Found::State(b, two)
            }
        }
        // A write of ours that is cut off leaves the magic, which is the same before and after it.
        (Found::Nothing, Found::State(state, sequence)) if sequence > FIRST => Found::Former(state),
        // A newer controller's header is not undone by an older one's.
        (Found::Newer(version), _) | (_, Found::Newer(version)) => Found::Newer(version),
        (Found::State(state, sequence), _) | (_, Found::State(state, sequence)) => {
            Found::State(state, sequence)
        }
        (Found::Damaged, _) | (_, Found::Damaged) => Found::Damaged,
        // No slot is `Former` by itself.
        (Found::Nothing | Found::Former(_), Found::Nothing | Found::Former(_)) => Found::Nothing,
    })
}

/// Writes the slot whose turn it is, and waits until it is on disk.
///
/// # Errors
///
/// When the disk does not take it.
pub fn write(file: &File, encoded: &[u8], sequence: u64) -> io::Result<()> {
    let offset = if sequence.is_multiple_of(2) {
        0
    } else {
        SLOT as u64
    };
    file.write_all_at(encoded, offset)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::{Found, SLOT, decode, encode, read, write};
    use crate::disk::record::tests::record;
    use crate::disk::record::{StoreState, new_uuid};

    fn state(snapshots: usize) -> StoreState {
        StoreState {
            uuid: new_uuid(),
            sectors: 1 << 20,
            snapshots: (0..snapshots).map(|_| record("00c0ffee", &[])).collect(),
        }
    }

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file
    }

    fn put(file: &File, state: &StoreState, sequence: u64) {
        write(file, &encode(state, sequence).unwrap(), sequence).unwrap();
    }

    #[test]
    fn the_newer_slot_counts() {
        let file = file();
        assert_eq!(read(&file).unwrap(), Found::Nothing);
        for (sequence, snapshots) in [(1, 0), (2, 1), (3, 2), (4, 0)] {
            let state = state(snapshots);
            put(&file, &state, sequence);
            assert_eq!(read(&file).unwrap(), Found::State(Box::new(state), sequence));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_state_before() {
        let (before, after) = (state(1), state(2));
        let encoded = encode(&after, 2).unwrap();
        for cut in (0..encoded.len()).step_by(512) {
            let file = file();
            put(&file, &state(3), 0); // what lay in the slot that is written over
            put(&file, &before, 1);
            file.write_all_at(&encoded[..cut], 0).unwrap();
            let whole = 64 + serde_json::to_vec(&after).unwrap().len();
            let expected = if cut >= whole { (&after, 2) } else { (&before, 1) };
            assert_eq!(
                read(&file).unwrap(),
                Found::State(Box::new(expected.0.clone()), expected.1),
                "{cut}"
            );
        }
    }

    #[test]
    fn what_was_given_to_something_else_is_no_store_any_more() {
        let file = file();
        let (new, used) = (state(0), state(1));
        put(&file, &new, 1);
        // A store that has not been written to a second time.
        assert_eq!(read(&file).unwrap(), Found::State(Box::new(new), 1));
        put(&file, &state(2), 2);
        put(&file, &used, 3);
        for cut in [17, 100, 512, 4096] {
            file.write_all_at(&vec![0; 4096 - 16], 16).unwrap();
            file.write_all_at(&encode(&state(0), 4).unwrap()[..cut], 0)
                .unwrap();
            let torn = read(&file).unwrap();
            assert!(
                matches!(torn, Found::State(_, 3 | 4)),
                "{cut}: a slot of ours counts when it is not whole"
            );
        }
        for foreign in [[0; 512], [0xeb; 512]] {
            file.write_all_at(&foreign, 0).unwrap();
            assert_eq!(read(&file).unwrap(), Found::Former(Box::new(used.clone())));
        }
    }

    #[test]
    fn any_flipped_byte_is_seen() {
        let state = state(1);
        let encoded = encode(&state, 2).unwrap();
        assert_eq!(decode(&encoded), Found::State(Box::new(state.clone()), 2));
        for at in 0..64 + serde_json::to_vec(&state).unwrap().len() {
            let mut flipped = encoded.clone();
            flipped[at] ^= 0x20;
            assert!(
                matches!(decode(&flipped), Found::Damaged | Found::Nothing),
                "{at}"
            );
        }
    }

    #[test]
    fn damage_is_not_emptiness() {
        let file = file();
        put(&file, &state(1), 1);
        file.write_all_at(b"x", SLOT as u64 + 40).unwrap();
        assert_eq!(read(&file).unwrap(), Found::Damaged);
        let short = tempfile::tempfile().unwrap();
        assert_eq!(read(&short).unwrap(), Found::Nothing);
    }

    #[test]
    fn a_slot_has_an_end() {
        assert!(encode(&state(100), 1).is_some());
        assert!(encode(&state(1000), 1).is_none());
    }
}
