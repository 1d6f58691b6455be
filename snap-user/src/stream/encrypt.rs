//! Encryption by age: to recipients, or with a passphrase.

mod key;

use std::io::{self, Write};
use std::path::Path;

use age::Encryptor;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::channel::{Flow, Inlet, Outlet};
use super::{Ended, PIECE_BYTES, StreamError};

pub use self::key::{KeyError, Passphrase, Recipient};

/// What a passphrase costs to try, as a power of two: 32 MiB and a tenth of a second. age's own tool takes 256 MiB and a second, which a
/// machine in need of a snapshot may not have to spare: choose a passphrase that is long enough, or recipients.
const WORK_FACTOR: u8 = 15;

/// How an image is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// Any of them can open it.
    Recipients(Vec<Recipient>),
    /// Whoever knows it can open it.
    Passphrase(Passphrase),
}

impl Encryption {
    /// To recipients, or with the passphrase in a file, which is read.
    ///
    /// # Errors
    ///
    /// When there is none in it.
    pub fn chosen(recipients: &[Recipient], passphrase_file: Option<&Path>) -> Result<Self, KeyError> {
        Ok(match passphrase_file {
            Some(file) => Self::Passphrase(Passphrase::read(file)?),
            None if recipients.is_empty() => Self::None,
            None => Self::Recipients(recipients.to_owned()),
        })
    }

    fn encryptor(&self) -> Result<Encryptor, age::EncryptError> {
        match self {
            // Without recipients, which is an error.
            Self::None => Encryptor::with_recipients(std::iter::empty()),
            Self::Recipients(recipients) => {
                Encryptor::with_recipients(recipients.iter().map(Recipient::as_age))
            }
            Self::Passphrase(passphrase) => {
                let mut recipient = age::scrypt::Recipient::new(passphrase.to_secret());
                recipient.set_work_factor(WORK_FACTOR);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
        }
    }
}

/// Encrypts until the end of the archive, on a thread that may block.
pub(super) fn run(encryption: &Encryption, mut inlet: Inlet, outlet: Outlet) -> Result<(), Ended> {
    let encryptor = encryption.encryptor();
    let encryptor = encryptor.map_err(|error| StreamError::Encrypt(io::Error::other(error)))?;
    let sending = Sending {
        outlet,
        gathered: BytesMut::new(),
    };
    // In here nothing fails but the outlet.
    let neighbour = |_| Ended::Neighbour;
    let mut encrypted = encryptor.wrap_output(sending).map_err(neighbour)?;
    while let Flow::Piece(piece) = inlet.blocking_recv()? {
        encrypted.write_all(&piece).map_err(neighbour)?;
    }
    let mut sending = encrypted.finish().map_err(neighbour)?;
    sending.flush().map_err(neighbour)?;
    sending.outlet.blocking_send(Flow::End)
}

/// Gathers age's chunks of 64 KiB.
struct Sending {
    outlet: Outlet,
    gathered: BytesMut,
}

impl Sending {
    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        let sent = self.outlet.blocking_send(Flow::Piece(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.len() + bytes.len() > PIECE_BYTES {
            self.flush()?;
        }
        if self.gathered.capacity() < bytes.len() {
            self.gathered.reserve(PIECE_BYTES);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.gathered.split().freeze() {
            nothing if nothing.is_empty() => Ok(()),
            piece => self.send(piece),
        }
    }
}
