//! Whether a slice of a store holds anything, read from the slice itself.
//!
//! The layout is the kernel's (drivers/md/dm-snap-persistent.c): a chunk of header, then a chunk of 16-byte entries, of which
//! the first with a new chunk of 0 ends the list. A merge takes them away from the end, so the first entry tells.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::disk::blockdev::SECTOR;
use crate::disk::record::Extent;

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

fn content(store: &File, extents: &[Extent]) -> io::Result<Content> {
    let Some(first) = extents.first() else {
        return Ok(Content::Nothing);
    };
    let start = first.start * SECTOR;
    let mut page = Page([0; 4096]);
    store.read_exact_at(&mut page.0, start)?;
    let header = &page.0[..16];
    if header[..4] != MAGIC {
        return Ok(Content::Nothing); // zeroed, and never loaded
    }
    let chunk = u64::from(u32::from_le_bytes([
        header[12], header[13], header[14], header[15],
    ])) * SECTOR;
    // Chunks are of 4 KiB or more; the first extent has a MiB at least, and a chunk is smaller.
    store.read_exact_at(&mut page.0, start + chunk - chunk % 4096)?;
    let entry = &page.0[..16];
    Ok(if entry[8..] == [0; 8] {
        Content::Nothing
    } else {
        Content::Changes
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::{Content, content};
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
}
