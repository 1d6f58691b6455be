//! The archive: a tar of `manifest.json` and one ELF core per process.

use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Core, Image, Manifest};
use crate::device::ImageSource;

/// Writes the archive of an image.
///
/// # Errors
///
/// When the image cannot be read or the sink does not take it.
pub fn write_archive<S: ImageSource + ?Sized, W: Write>(
    image: &Image,
    source: &S,
    sink: W,
) -> io::Result<()> {
    let cores: Vec<_> = image
        .processes
        .iter()
        .map(|process| Core::new(image, process))
        .collect();
    let manifest = Manifest::new(image, &cores);
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    let mut archive = tar::Builder::new(sink);
    append(&mut archive, "manifest.json", text.len() as u64, text.as_slice())?;
    for (entry, core) in manifest.processes.iter().zip(&cores) {
        append(&mut archive, &entry.core, core.bytes(), core.reader(source))?;
    }
    archive.into_inner()?.flush()
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    bytes: u64,
    data: impl Read,
) -> io::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(now);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, data)
}
