//! `/etc/freezeframe/layers`: lines `NAME DEVICE`, as in crypttab; `#` begins a comment.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use crate::disk::blockdev::{self, Devno};
use crate::disk::durable;
use crate::disk::error::{DiskError, Doing as _};

/// Where it is.
pub const PATH: &str = "/etc/freezeframe/layers";
const HEADER: &str =
    "# Layers that freezeframe-layers.service starts before filesystems are mounted: NAME DEVICE\n";

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it is over.
    pub device: PathBuf,
}

/// The layers of this machine, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// They.
    pub entries: Vec<Entry>,
    /// Lines that are comments, kept.
    comments: String,
}

impl Config {
    /// Reads it. One that is not there is empty.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or a line is neither a layer nor a comment.
    pub fn read() -> Result<Self, DiskError> {
        read(Path::new(PATH))
    }

    /// Reads it to change it, and waits until nobody else does.
    ///
    /// # Errors
    ///
    /// As [`Config::read`]; and when it cannot be locked.
    pub fn lock() -> Result<Locked, DiskError> {
        lock(Path::new(PATH))
    }

    fn text(&self) -> String {
        let mut text = if self.comments.is_empty() {
            HEADER.to_owned()
        } else {
            self.comments.clone()
        };
        for entry in &self.entries {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{} {}", entry.name, entry.device.display());
        }
        text
    }

    /// Refuses a name or a device that a layer has.
    ///
    /// # Errors
    ///
    /// Then.
    pub fn check(&self, name: &str, device: Devno) -> Result<(), DiskError> {
        let taken = self.entries.iter().find(|entry| {
            entry.name == name || blockdev::devno(&entry.device).is_ok_and(|found| found == device)
        });
        match taken {
            None => Ok(()),
            Some(entry) => Err(DiskError::Layer {
                what: "add",
                name: name.to_owned(),
                why: format!(
                    "{PATH} has {} over {} already",
                    entry.name,
                    entry.device.display()
                ),
                remedy: format!(
                    "start that with `freezeframe layer up`, or remove it with `freezeframe layer remove {}`",
                    entry.name
                ),
            }),
        }
    }
}

/// The configuration, which nobody else changes as long as this lives.
#[derive(Debug)]
pub struct Locked {
    /// What it says, to be changed.
    pub config: Config,
    path: PathBuf,
    _folder: File,
}

impl Locked {
    /// Writes it; whole and on disk, or as it was.
    ///
    /// # Errors
    ///
    /// When the disk does not take it.
    pub fn write(&self) -> Result<(), DiskError> {
        durable::write(&self.path, &self.config.text()).doing(|| format!("write {}", self.path.display()))
    }
}

/// The lock is the folder's, for the file is another one after each change.
fn lock(path: &Path) -> Result<Locked, DiskError> {
    let open = || {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let folder = File::open(folder)?;
        retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive))?;
        Ok::<_, io::Error>(folder)
    };
    let folder = open().doing(|| format!("lock {}", path.display()))?;
    Ok(Locked {
        config: read(path)?,
        path: path.to_owned(),
        _folder: folder,
    })
}

fn read(path: &Path) -> Result<Config, DiskError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    };
    parse(&text.doing(|| format!("read {}", path.display()))?)
}

fn parse(text: &str) -> Result<Config, DiskError> {
    let mut config = Config {
        entries: Vec::new(),
        comments: String::new(),
    };
    for (number, line) in text.lines().enumerate() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => config.comments += &format!("{line}\n"),
            [name, device] if device.starts_with('/') => config.entries.push(Entry {
                name: (*name).to_owned(),
                device: device.into(),
            }),
            _ => {
                return Err(DiskError::Io {
                    what: format!("read line {} of {PATH}", number + 1),
                    cause: io::Error::new(io::ErrorKind::InvalidData, "it should be NAME DEVICE"),
                });
            }
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{Entry, HEADER, lock, parse, read};

    #[test]
    fn who_changes_it_at_once_loses_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("freezeframe/layers");
        thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let mut locked = lock(path).unwrap();
                    locked.config.entries.push(Entry {
                        name: format!("layer{number}"),
                        device: "/dev/x".into(),
                    });
                    thread::yield_now();
                    locked.write().unwrap();
                });
            }
        });
        assert_eq!(read(&path).unwrap().entries.len(), 8);
    }

    #[test]
    fn comments_stay_and_lines_are_read() {
        let config = parse("# mine\n\nsrv  /dev/disk/by-partuuid/1\ndb /dev/mapper/vg-db\n").unwrap();
        assert_eq!(config.entries.len(), 2);
        assert_eq!(
            config.text(),
            "# mine\nsrv /dev/disk/by-partuuid/1\ndb /dev/mapper/vg-db\n"
        );
        assert_eq!(parse("").unwrap().text(), HEADER);
        let error = parse("srv /dev/x\nsrv\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
