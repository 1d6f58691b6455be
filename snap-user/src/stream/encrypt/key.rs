//! What an image is encrypted to.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// A passphrase is a line, not a file.
const PASSPHRASE_BYTES: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; name a file with the passphrase in its first line", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file has nothing to say.
    #[error("{} has no passphrase: its first line is empty", .0.display())]
    Empty(PathBuf),
}

/// Whom an image is encrypted to: an X25519 key of age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(age::x25519::Recipient);

impl Recipient {
    pub(super) fn as_age(&self) -> &dyn age::Recipient {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            "it is no recipient of age: age1 and 58 more characters, as age-keygen prints it".to_owned()
        })
    }
}

impl TryFrom<String> for Recipient {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.0.to_string()
    }
}

/// A passphrase. It is shown to nobody, but goes over the daemon's socket as it is.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// The first line of a file. Says so where others can read it, too.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            tell!(
                "others may read the passphrase in {0}; `chmod 600 {0}` forbids it",
                path.display()
            );
        }
        let mut line = String::new();
        BufReader::new(file.take(PASSPHRASE_BYTES))
            .read_line(&mut line)
            .map_err(failed)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(KeyError::Empty(path.to_owned()));
        }
        Ok(Self(line.to_owned().into()))
    }

    /// What age takes.
    pub(in crate::stream) fn to_secret(&self) -> SecretString {
        self.0.clone()
    }
}

impl From<String> for Passphrase {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Serialize for Passphrase {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase")
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Passphrase {}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::{KeyError, Passphrase};

    #[test]
    fn a_passphrase_is_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        for (text, wanted) in [("a b \nc\n", "a b "), ("x", "x"), ("x\r\n", "x")] {
            std::fs::write(&path, text).unwrap();
            let passphrase = Passphrase::read(&path).unwrap();
            assert_eq!(passphrase.0.expose_secret(), wanted);
            assert!(!format!("{passphrase:?}").contains('x'));
        }
        std::fs::write(&path, "\nx").unwrap();
        assert!(matches!(Passphrase::read(&path), Err(KeyError::Empty(_))));
        let error = Passphrase::read(&folder.path().join("none")).unwrap_err();
        assert!(matches!(error, KeyError::Read { .. }));
    }
}
