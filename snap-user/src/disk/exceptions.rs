//! Whether a slice of a store holds anything, read from the slice itself; and how one is emptied.
//!
//! The layout is the kernel's (drivers/md/dm-snap-persistent.c): a chunk of header, then a chunk of 16-byte entries, of which
//! the first with a new chunk of 0 ends the list. A merge takes them away from the end, so the first entry tells.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::disk::blockdev::SECTOR;
use crate::disk::record::{Extent, place};

const MAGIC: [u8; 4] = *b"SnAp";

/// What a slice holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the top reads the same without it.
    Nothing,
    /// What was written to the top.
    Changes,
}

/// Aligned as O_DIRECT wants it.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Looks into a slice of the store on a device, past the page cache: the device mapper writes past it too.
///
/// # Errors
///
/// When it cannot be read.
pub fn look(store: &Path, extents: &[Extent]) -> io::Result<Content> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(store)?;
    content(&file, extents)
}

pub(super) fn content(store: &File, extents: &[Extent]) -> io::Result<Content> {
    let Some(start) = place(extents, 0) else {
        return Ok(Content::Nothing);
    };
    let mut page = Page([0; 4096]);
    store.read_exact_at(&mut page.0, start * SECTOR)?;
    let header = &page.0[..16];
    if header[..4] != MAGIC {
        return Ok(Content::Nothing); // cleared, and never loaded
    }
    let chunk = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    // A chunk may be as large as the first extent, and the entries are in the next one then.
    let entries = place(extents, chunk.into()).ok_or_else(|| {
        let what = format!("its chunks of {chunk} sectors do not fit into it");
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    // Chunks are of 4 KiB or more.
    store.read_exact_at(&mut page.0, (entries - entries % 8) * SECTOR)?;
    let entry = &page.0[..16];
    Ok(if entry[8..] == [0; 8] {
        Content::Nothing
    } else {
        Content::Changes
    })
}

/// Empties a slice before its first use: what an earlier snapshot left in the same place would be taken for its content. It
/// lasts when the file is synced.
///
/// Without a header the kernel makes the slice an empty store, and writes the header before it clears the first entries
/// (`persistent_read_metadata`): so these are cleared as well, all of their chunk.
///
/// # Errors
///
/// When the disk does not take it.
pub fn clear(store: &File, extents: &[Extent], chunk_sectors: u32) -> io::Result<()> {
    let mut sector = 0;
    while sector < 2 * u64::from(chunk_sectors)
        && let Some(at) = place(extents, sector)
    {
        // In pages, which no extent cuts: it begins and ends at whole MiB.
        store.write_all_at(&[0; 4096], at * SECTOR)?;
        sector += 4096 / SECTOR;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::{Content, clear, content};
    use crate::disk::record::Extent;

    #[test]
    fn the_first_entry_tells() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        let extents = [Extent {
            start: 2048,
            sectors: 2048,
        }];
        let look = || content(&file, &extents).unwrap();
        assert_eq!(look(), Content::Nothing);
        let mut header = *b"SnAp\x01\0\0\0\x01\0\0\0\x08\0\0\0";
        file.write_all_at(&header, 1 << 20).unwrap();
        assert_eq!(look(), Content::Nothing);
        let entry = [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        file.write_all_at(&entry, (1 << 20) + 4096).unwrap();
        assert_eq!(look(), Content::Changes);
        header[12] = 16; // a chunk of 8 KiB has its entries there
        file.write_all_at(&header, 1 << 20).unwrap();
        assert_eq!(look(), Content::Nothing);
        assert_eq!(content(&file, &[]).unwrap(), Content::Nothing);
    }

    #[test]
    fn entries_are_found_behind_a_first_extent_of_one_chunk() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(6 << 20).unwrap();
        let extent = |mib: u64| Extent {
            start: mib * 2048,
            sectors: 2048,
        };
        let header = *b"SnAp\x01\0\0\0\x01\0\0\0\0\x08\0\0"; // chunks of 1 MiB
        let entry = [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        file.write_all_at(&header, 1 << 20).unwrap();
        file.write_all_at(&entry, 2 << 20).unwrap(); // another slice's
        let look = || content(&file, &[extent(1), extent(4)]);
        assert_eq!(look().unwrap(), Content::Nothing);
        file.write_all_at(&entry, 4 << 20).unwrap();
        assert_eq!(look().unwrap(), Content::Changes);
        // What cannot be told is not told to be nothing.
        assert!(content(&file, &[extent(1)]).is_err());
    }

    #[test]
    fn a_cleared_slice_is_empty_and_its_neighbours_are_whole() {
        for chunk_sectors in [8, 2048] {
            let file = tempfile::tempfile().unwrap();
            let full = vec![0xff; 6 << 20];
            file.write_all_at(&full, 0).unwrap();
            let extent = |mib: u64, mibs: u64| Extent {
                start: mib * 2048,
                sectors: mibs * 2048,
            };
            let slice = [extent(1, 1), extent(4, 1)];
            clear(&file, &slice, chunk_sectors).unwrap();
            let mut now = vec![0; full.len()];
            file.read_exact_at(&mut now, 0).unwrap();
            let cleared: Vec<_> = (0..now.len() / 4096)
                .filter(|page| now[page * 4096..][..4096].iter().all(|byte| *byte == 0))
                .collect();
            let expected: Vec<_> = match chunk_sectors {
                8 => vec![256, 257],
                _ => (256..512).chain(1024..1280).collect(),
            };
            assert_eq!(cleared, expected);
            assert_eq!(content(&file, &slice).unwrap(), Content::Nothing);
        }
        let file = tempfile::tempfile().unwrap();
        clear(&file, &[], 8).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
