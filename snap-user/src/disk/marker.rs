//! Markers: one small file per top that runs on a store, so that a layer is never started without its store.
//!
//! Beside the layers' configuration, not below `/var`: they are read before anything but the root is mounted; that of the root
//! itself even before that, by a look into its filesystem.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::durable;

/// Where they are.
pub const FOLDER: &str = "/etc/freezeframe/active";

/// What a marker says: the top runs on that snapshot of that store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The store.
    pub store: String,
    /// The snapshot.
    pub id: String,
}

fn path(top: &str) -> PathBuf {
    Path::new(FOLDER).join(top)
}

/// Marks a top; on disk when this returns. Called before the switch.
///
/// # Errors
///
/// When the disk does not take it.
pub fn write(top: &str, store: &str, id: &str) -> io::Result<()> {
    durable::write(&path(top), &format!("{store} {id}\n"))
}

/// The marker of a top. `None`: it has none.
///
/// # Errors
///
/// When there is one that cannot be read.
pub fn read(top: &str) -> io::Result<Option<Marker>> {
    read_below(Path::new("/"), top)
}

/// The marker of a top on a root that is mounted elsewhere.
///
/// # Errors
///
/// When there is one that cannot be read.
pub fn read_below(root: &Path, top: &str) -> io::Result<Option<Marker>> {
    let path = root.join(FOLDER.trim_start_matches('/')).join(top);
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| {
            let what = format!("{} is not a marker of ours", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Option<Marker> {
    let (store, id) = text.trim_end().split_once(' ')?;
    Some(Marker {
        store: store.to_owned(),
        id: id.to_owned(),
    })
}

/// Unmarks a top, where the marker is of that snapshot. One that cannot be removed does no harm but a warning: a marker whose
/// store does not know the snapshot is void.
pub fn remove(top: &str, id: &str) {
    if !matches!(read(top), Ok(Some(marker)) if marker.id == id) {
        return;
    }
    if let Err(error) = durable::remove(&path(top)) {
        tell!("cannot remove the marker {}: {error}", path(top).display());
    }
}

#[cfg(test)]
mod tests {
    use super::{Marker, parse};

    #[test]
    fn a_marker_is_two_words() {
        let marker = Marker {
            store: "u-u".to_owned(),
            id: "00c0ffee".to_owned(),
        };
        assert_eq!(parse("u-u 00c0ffee\n"), Some(marker));
        assert_eq!(parse("nonsense"), None);
    }
}
