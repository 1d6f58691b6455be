//! What opens an encrypted archive.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use age::{DecryptError, Identity, IdentityFile, NoCallbacks};
use clap::Args;

use super::MOST_WORK;
use crate::stream::encrypt::{KeyError, Passphrase};

/// The keys that a command may need.
#[derive(Clone, Debug, Default, Args)]
pub struct Keys {
    /// Decrypt the image with a key from this file, as age-keygen writes it
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Decrypt the image with the passphrase that is the first line of this file
    #[arg(long = "passphrase-file", value_name = "FILE")]
    pub passphrase: Option<PathBuf>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file of identities cannot be read.
    #[error("cannot read {}: {source}; it is to be a file that age-keygen wrote", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// It makes no sense.
    #[error("cannot use {}: {why}; it is to be a file that age-keygen wrote", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] KeyError),
}

/// Keys, and where they are from.
type Found = Option<(PathBuf, Vec<Box<dyn Identity + Send + Sync>>)>;

impl Keys {
    /// Those of the identity file; `None` where none is named.
    pub(super) fn identities(&self) -> Result<Found, KeysError> {
        let Some(path) = &self.identity else {
            return Ok(None);
        };
        let unusable = |why: &str| KeysError::Unusable {
            path: path.clone(),
            why: why.to_owned(),
        };
        let identities = read(path)
            .map_err(|source| KeysError::Identity {
                path: path.clone(),
                source,
            })?
            .into_identities()
            .map_err(|error: DecryptError| unusable(&error.to_string()))?;
        if identities.is_empty() {
            return Err(unusable("there is no key in it"));
        }
        Ok(Some((path.clone(), identities)))
    }

    /// What the passphrase opens; `None` where none is named.
    pub(super) fn passphrase(&self) -> Result<Found, KeysError> {
        let Some(path) = &self.passphrase else {
            return Ok(None);
        };
        let mut identity = age::scrypt::Identity::new(Passphrase::read(path)?.to_secret());
        identity.set_max_work_factor(MOST_WORK);
        Ok(Some((path.clone(), vec![Box::new(identity)])))
    }
}

fn read(path: &Path) -> io::Result<IdentityFile<NoCallbacks>> {
    IdentityFile::from_buffer(BufReader::new(File::open(path)?))
}
