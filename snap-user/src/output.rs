//! Where an archive goes. A file appears under its final name only when it is whole and on disk.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Why an archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is something at that path.
    #[error("cannot write {}: it exists already; remove it or choose another name", .0.display())]
    Exists(PathBuf),
    /// Somebody would see it.
    #[error("standard output is a terminal, and an archive is no text; redirect it, or name a file with -o")]
    Terminal,
    /// Whoever reads our standard output went away, or cannot take more.
    #[error("cannot write to standard output: {0}; the processes are unharmed")]
    Stream(io::Error),
    /// A device or a FIFO does not take it.
    #[error("cannot write to {}: {source}; the processes are unharmed", path.display())]
    Device {
        /// The path that was asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It names no file.
    #[error("cannot write {}: that names a folder; name a file in it, such as {}", .0.display(), .0.join("image.tar").display())]
    Folder(PathBuf),
    /// Its folder does not take a file.
    #[error("cannot write {}: {source}; check the folder and its permissions", path.display())]
    Create {
        /// The path that was asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It took all, and does not give it its name.
    #[error(
        "cannot name {} as it was to be: {source}; the image is whole, and is {}: rename it", path.display(), partial.display()
    )]
    Rename {
        /// The path that was asked for.
        path: PathBuf,
        /// Where the image is.
        partial: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It took some, but not all.
    #[error("cannot write {}: {source}; the partial file was removed, the processes are unharmed", path.display())]
    Write {
        /// The path that was asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A file on its way to its final name; removed when it is dropped before.
#[derive(Debug)]
pub struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    file: Option<File>,
}

impl PartialFile {
    /// Claims a place beside `path`. Called before anything is frozen, so that what cannot be written is refused
    /// while it costs nothing.
    ///
    /// # Errors
    ///
    /// When something is at `path`, or its folder takes no file.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let failed = |source| OutputError::Create {
            path: path.to_owned(),
            source,
        };
        if path.symlink_metadata().is_ok() {
            return Err(OutputError::Exists(path.to_owned()));
        }
        // `file_name()` takes `new/` and `new/.` for files.
        let name = path
            .file_name()
            .filter(|name| path.as_os_str().as_bytes().ends_with(name.as_bytes()))
            .ok_or_else(|| OutputError::Folder(path.to_owned()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".partial.{}", std::process::id()));
        let partial = path.with_file_name(hidden);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600) // it holds whatever the processes know
            .open(&partial)
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file: Some(file),
        })
    }

    /// A second handle to the file, to write to.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn handle(&self) -> Result<File, OutputError> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound);
        file.map_err(io::Error::from)
            .and_then(File::try_clone)
            .map_err(|source| self.failed(source))
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    ///
    /// When the disk does not take it, or somebody else took the name meanwhile. Where it cannot have the name for any other reason, it
    /// stays as it is, and the error says where: it is whole.
    pub fn finish(mut self) -> Result<(), OutputError> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let synced = file.sync_all();
        let whole = synced.is_ok();
        match synced.and_then(|()| rename(&self.partial, &self.path)) {
            Ok(()) => Ok(()),
            Err(source) if whole && source.kind() != io::ErrorKind::AlreadyExists => {
                Err(OutputError::Rename {
                    path: self.path.clone(),
                    partial: self.partial.clone(),
                    source,
                })
            }
            Err(source) => {
                self.file = Some(file); // dropped with us, and the partial file with it
                Err(self.failed(source))
            }
        }
    }

    /// Words an error of writing.
    #[must_use]
    pub fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.file.is_some()
            && let Err(error) = std::fs::remove_file(&self.partial)
        {
            tell!("cannot remove {}: {error}", self.partial.display());
        }
    }
}

/// Renames a file, and replaces nothing.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and some in user space know no flags.
        Err(Errno::INVAL | Errno::NOSYS) => match rename_by_link(from, to) {
            // And some of those no hard links.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => rename_if_free(from, to),
            done => done,
        },
        done => Ok(done?),
    }
}

/// The same, for filesystems that have hard links: those never replace anything.
fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// The same, for the others: whoever takes the name between the look and the renaming loses it.
fn rename_if_free(from: &Path, to: &Path) -> io::Result<()> {
    match to.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::rename(from, to),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{OutputError, PartialFile, rename, rename_by_link, rename_if_free};

    #[test]
    fn a_finished_file_has_its_name_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        let partial = PartialFile::create(&path).unwrap();
        partial.handle().unwrap().write_all(b"whole").unwrap();
        assert!(!path.exists());
        partial.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "for its owner alone"
        );
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(PartialFile::create(&folder.path().join("image.tar")).unwrap());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        let partial = PartialFile::create(&path).unwrap();
        std::fs::write(&path, b"theirs").unwrap();
        assert!(matches!(partial.finish(), Err(OutputError::Write { .. })));
        assert!(matches!(PartialFile::create(&path), Err(OutputError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn all_ways_of_renaming_replace_nothing() {
        for rename in [rename, rename_by_link, rename_if_free] {
            let folder = tempfile::tempdir().unwrap();
            let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
            std::fs::write(&from, b"whole").unwrap();
            std::fs::write(&to, b"theirs").unwrap();
            assert_eq!(
                rename(&from, &to).unwrap_err().kind(),
                std::io::ErrorKind::AlreadyExists
            );
            std::fs::remove_file(&to).unwrap();
            rename(&from, &to).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), b"whole");
            assert!(!from.exists());
        }
    }

    #[test]
    fn what_is_whole_and_cannot_have_its_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut partial = PartialFile::create(&folder.path().join("image.tar")).unwrap();
        partial.handle().unwrap().write_all(b"whole").unwrap();
        partial.path = folder.path().join("gone/image.tar");
        let (hidden, error) = (partial.partial.clone(), partial.finish().unwrap_err());
        assert!(matches!(error, OutputError::Rename { .. }), "{error}");
        assert!(error.to_string().contains(hidden.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read(hidden).unwrap(), b"whole");
    }

    #[test]
    fn a_folder_is_no_file_whether_it_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["new/", "new//", "new/.", "new/./", "new/.."] {
            let error = PartialFile::create(&folder.path().join(name)).unwrap_err();
            assert!(matches!(error, OutputError::Folder(_)), "{name}: {error}");
        }
        let error = PartialFile::create(&folder.path().join(".")).unwrap_err();
        assert!(matches!(error, OutputError::Exists(_)), "{error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        let plain = PartialFile::create(&folder.path().join("./image.tar")).unwrap();
        plain.finish().unwrap();
    }

    #[test]
    fn a_missing_folder_is_told() {
        let error = PartialFile::create(std::path::Path::new("/nonexistent/image.tar")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot write /nonexistent/image.tar: No such file"),
            "{error}"
        );
    }
}
