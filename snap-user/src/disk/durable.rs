//! Small files that are whole or not there, whenever the machine stops.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The longest name of a dm device, and a byte that ends it (include/uapi/linux/dm-ioctl.h).
const DM_NAME_LEN: usize = 128;

/// Writes a file under another name, makes it last, and renames it.
///
/// # Errors
///
/// When the disk does not take it; what was there before is there still.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let partial = partial(path)?;
    let mut file = File::create(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(folder)?.sync_all()?;
    // The folder may be new.
    folder
        .parent()
        .map_or(Ok(()), |above| File::open(above)?.sync_all())
}

/// The other name, which is no other file's: markers are named as their tops are, and `NAME.new` may be a top. It is too long for
/// one.
fn partial(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut partial = name.to_owned();
    partial.push(".");
    partial.push("new".repeat(DM_NAME_LEN.saturating_sub(name.len()).div_ceil(3)));
    Ok(path.with_file_name(partial))
}

/// Removes a file for good.
///
/// # Errors
///
/// When it cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    File::open(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::{DM_NAME_LEN, partial};

    #[test]
    fn a_file_that_is_half_written_bears_no_name_of_a_device() {
        let longest = "x".repeat(DM_NAME_LEN - 1);
        let names = ["ff-srv", "ff-srv.new", "ff-srv.newnew", "layers", &longest];
        let partials: BTreeSet<_> = names
            .iter()
            .map(|name| partial(&Path::new("/etc/freezeframe/active").join(name)).unwrap())
            .collect();
        assert_eq!(partials.len(), names.len());
        for partial in partials {
            let length = partial.file_name().unwrap().len();
            assert!(
                (DM_NAME_LEN..=255).contains(&length),
                "{}: {length}",
                partial.display()
            );
        }
    }

    #[test]
    fn a_file_is_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.conf");
        super::write(&path, "one").unwrap();
        super::write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        super::remove(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
}
