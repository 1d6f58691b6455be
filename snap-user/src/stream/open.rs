//! The way back: an archive from wherever it is, decrypted and decompressed as it is read. What wraps it is told by its first bytes, not by
//! its name.

mod download;
mod keys;
mod layer;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor};
use url::Url;

use self::download::Downloading;
use self::layer::{Ending, Frames, Layered, Noting};
use super::store::{self, ObjectError, Settings};

pub use self::keys::Keys;
pub use self::layer::{Layer, ReadError};

/// What is read at once from below a layer.
const BUFFER_BYTES: usize = 128 << 10;
/// No layer has a longer name.
const MAGIC_BYTES: u64 = 40;
/// What zstd may keep of what it has read, as a power of two: 128 MiB, as its own tool has it. A frame that wants more is refused.
const WINDOW_LOG: u32 = 27;
/// A passphrase may cost this much to try, as a power of two: 1 GiB and some seconds. age's own tool writes 18.
const MOST_WORK: u8 = 20;

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file.
    File(PathBuf),
    /// On standard input.
    Stdin,
    /// In an object store.
    Object(Url),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is empty".to_owned()),
            "-" => Ok(Self::Stdin),
            _ => Ok(store::parse(text)?.map_or_else(|| Self::File(text.into()), Self::Object)),
        }
    }
}

impl Location {
    /// Its name without the folder; empty for standard input.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Self::Object(url) => url
                .path_segments()
                .and_then(|mut parts| parts.next_back())
                .map(ToOwned::to_owned),
            Self::Stdin => None,
        }
        .unwrap_or_default()
    }

    /// Whether it begins anew whenever it is opened: what comes through a pipe does not.
    #[must_use]
    pub fn opens_again(&self) -> bool {
        match self {
            Self::File(path) => path.metadata().is_ok_and(|metadata| {
                let kind = metadata.file_type();
                kind.is_file() || kind.is_block_device()
            }),
            Self::Stdin => false,
            Self::Object(_) => true,
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Stdin => formatter.write_str("standard input"),
            Self::Object(url) => url.fmt(formatter),
        }
    }
}

/// Why an archive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or not for us.
    #[error("cannot open {0}: {1}")]
    Open(Location, io::Error),
    /// The store does not give it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// It does not even begin.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A key file cannot be read, or holds none.
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    /// Encrypted to a key.
    #[error("{0} is encrypted; name the file with its key: --identity FILE")]
    NoIdentity(Location),
    /// Encrypted with a passphrase.
    #[error("{0} is encrypted with a passphrase; name a file that begins with it: --passphrase-file FILE")]
    NoPassphrase(Location),
    /// To somebody else.
    #[error("cannot decrypt {location}: it is encrypted to other keys than those in {}", file.display())]
    WrongIdentity {
        /// The archive.
        location: Location,
        /// Where the keys are.
        file: PathBuf,
    },
    /// With another one.
    #[error("cannot decrypt {location}: the passphrase in {} is not the one", file.display())]
    WrongPassphrase {
        /// The archive.
        location: Location,
        /// Where the passphrase is.
        file: PathBuf,
    },
    /// Somebody wants us to take all memory, or to take forever.
    #[error(
        "cannot decrypt {0}: to try a passphrase on it costs 2^{1} times what is usual, and more than 2^{MOST_WORK} is refused"
    )]
    ExcessiveWork(Location, u8),
}

/// Opens an archive: what comes out is a tar. Keys are used where they are needed. What is damaged or ends too early further on is an
/// [`io::Error`] of reading with a [`ReadError`] inside.
///
/// # Errors
///
/// When it is not there, or cannot be decrypted.
pub fn open(location: &Location, keys: &Keys) -> Result<Box<dyn Read + Send>, OpenError> {
    open_with(location, keys, &Settings::from_env())
}

/// The same, from an object store of somebody else's.
///
/// # Errors
///
/// As above.
pub fn open_with(
    location: &Location,
    keys: &Keys,
    settings: &Settings,
) -> Result<Box<dyn Read + Send>, OpenError> {
    let failed = |source| OpenError::Open(location.clone(), source);
    let bare = |reader| Layered::new(location, Layer::Bare, reader, Ending::default());
    let outermost: Box<dyn Read + Send> = match location {
        Location::File(path) => Box::new(bare(File::open(path).map_err(failed)?)),
        Location::Stdin => Box::new(bare(File::from(
            io::stdin().as_fd().try_clone_to_owned().map_err(failed)?,
        ))),
        Location::Object(url) => Box::new(Downloading::begin(url, settings)?),
    };
    let begin = |reader| {
        peek(reader).map_err(|error| layer::worded(location, Layer::Bare, error, &Ending::default()))
    };
    let (magic, mut reader) = begin(outermost)?;
    if Layer::of(&magic) == Some(Layer::Age) {
        reader = decrypt(location, keys, reader)?;
    }
    let (magic, reader) = begin(reader)?;
    let below = BufReader::with_capacity(BUFFER_BYTES, reader);
    let ending = Ending::default();
    Ok(match Layer::of(&magic) {
        Some(Layer::Zstd) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(below).map_err(failed)?;
            decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
            Box::new(Layered::new(location, Layer::Zstd, decoder, ending))
        }
        Some(Layer::Lz4) => {
            let frames = Frames::new(Noting::new(below, ending.clone()), ending.clone());
            Box::new(Layered::new(location, Layer::Lz4, frames, ending))
        }
        _ => Box::new(below),
    })
}

/// The first bytes, and a reader that begins with them again.
fn peek(mut reader: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut magic = Vec::new();
    reader.by_ref().take(MAGIC_BYTES).read_to_end(&mut magic)?;
    Ok((magic.clone(), Box::new(Cursor::new(magic).chain(reader))))
}

fn decrypt(
    location: &Location,
    keys: &Keys,
    encrypted: Box<dyn Read + Send>,
) -> Result<Box<dyn Read + Send>, OpenError> {
    let ending = Ending::default();
    let below = Noting::new(BufReader::with_capacity(BUFFER_BYTES, encrypted), ending.clone());
    // Text, or as it is.
    let below = BufReader::with_capacity(BUFFER_BYTES, ArmoredReader::new(below));
    let damaged = |error| match error {
        DecryptError::Io(error) => layer::worded(location, Layer::Age, error, &ending),
        error => ReadError::damaged(location, Layer::Age, error.to_string()),
    };
    let decryptor = Decryptor::new_buffered(below).map_err(damaged)?;
    let scrypt = decryptor.is_scrypt();
    let key = if scrypt {
        keys.passphrase()?
    } else {
        keys.identities()?
    };
    let Some((file, identities)) = key else {
        let location = location.clone();
        return Err(if scrypt {
            OpenError::NoPassphrase(location)
        } else {
            OpenError::NoIdentity(location)
        });
    };
    let identities = identities
        .iter()
        .map(|identity| &**identity as &dyn age::Identity);
    match decryptor.decrypt(identities) {
        Ok(reader) => Ok(Box::new(Layered::new(location, Layer::Age, reader, ending))),
        Err(DecryptError::NoMatchingKeys) => Err(OpenError::WrongIdentity {
            location: location.clone(),
            file,
        }),
        Err(DecryptError::DecryptionFailed) if scrypt => Err(OpenError::WrongPassphrase {
            location: location.clone(),
            file,
        }),
        Err(DecryptError::ExcessiveWork { required, .. }) => {
            Err(OpenError::ExcessiveWork(location.clone(), required))
        }
        Err(error) => Err(damaged(error).into()),
    }
}

#[cfg(test)]
mod tests;
