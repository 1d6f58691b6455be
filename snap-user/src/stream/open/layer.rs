//! The layers around an archive, and telling which of them is cut off or damaged. Decoders know it only in part: age calls a file that is cut
//! off undecryptable, and the decoder of lz4 takes an end between two blocks for a good one.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lz4_flex::frame::FrameDecoder;

use super::{Location, ObjectError};

/// What may be around an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Nothing: where it lies.
    Bare,
    /// Encryption.
    Age,
    /// Compression.
    Zstd,
    /// Compression, faster.
    Lz4,
}

impl Layer {
    /// Told by its first bytes; `None`: it is the archive itself, or nothing of ours.
    pub(super) fn of(magic: &[u8]) -> Option<Self> {
        let begins = |with: &[u8]| magic.starts_with(with);
        if begins(b"age-encryption.org/") || begins(b"-----BEGIN AGE ENCRYPTED FILE-----") {
            return Some(Self::Age);
        }
        // The second is what other tools put before or between frames, for both formats; those that begin with it write zstd.
        let skippable = magic.len() >= 4 && magic[0] & 0xf0 == 0x50 && magic[1..4] == [0x2a, 0x4d, 0x18];
        if begins(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
            return Some(Self::Zstd);
        }
        begins(&[0x04, 0x22, 0x4d, 0x18]).then_some(Self::Lz4)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "file",
            Self::Age => "age encryption",
            Self::Zstd => "zstd compression",
            Self::Lz4 => "lz4 compression",
        }
    }
}

/// What is wrong with a layer.
#[derive(Debug)]
enum Fault {
    Truncated,
    /// Cut off, or damaged where it ends: nobody can tell.
    AtItsEnd,
    Damaged(String),
    Unreadable(io::Error),
}

/// An archive that was well as far as it has been read, and is no further.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub struct ReadError {
    said: String,
    /// As an [`io::Error`] has it; whatever a decoder calls its own errors, damage is `InvalidData`.
    kind: io::ErrorKind,
}

impl ReadError {
    fn new(location: &Location, layer: Layer, fault: &Fault) -> Self {
        let name = layer.name();
        let kind = match fault {
            Fault::Truncated => io::ErrorKind::UnexpectedEof,
            Fault::AtItsEnd | Fault::Damaged(_) => io::ErrorKind::InvalidData,
            Fault::Unreadable(source) => source.kind(),
        };
        let said = match fault {
            Fault::Truncated => format!(
                "{location} is cut off: its {name} ends too early; get it once more from where it was written"
            ),
            Fault::AtItsEnd => format!(
                "{location} is cut off, or damaged at its end: its {name} is not whole; get it once more from where it was written"
            ),
            Fault::Damaged(why) => format!(
                "{location} is damaged: its {name} makes no sense ({why}); get it once more from where it was written"
            ),
            Fault::Unreadable(source) => format!("cannot read {location}: {source}"),
        };
        Self { said, kind }
    }

    /// A store's errors name the object.
    pub(super) fn of_store(error: &ObjectError) -> Self {
        Self {
            said: error.to_string(),
            kind: io::ErrorKind::Other,
        }
    }

    /// Whether what was read is at fault, and not whoever had to deliver it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self.kind,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
        )
    }

    pub(super) fn damaged(location: &Location, layer: Layer, why: String) -> Self {
        Self::new(location, layer, &Fault::Damaged(why))
    }
}

/// An error of reading that says which layer it is of. One from further below says so already.
pub(super) fn worded(location: &Location, layer: Layer, error: io::Error, ending: &Ending) -> ReadError {
    let error = match error.downcast::<ReadError>() {
        Ok(worded) => return worded,
        Err(error) => error,
    };
    let fault = match (layer, error.kind()) {
        // The kernel's, or the store's, and not of what was read.
        _ if error.raw_os_error().is_some() || layer == Layer::Bare => Fault::Unreadable(error),
        (_, io::ErrorKind::UnexpectedEof) => Fault::Truncated,
        (Layer::Age, _) if ending.reached() => Fault::AtItsEnd,
        _ => Fault::Damaged(error.to_string()),
    };
    ReadError::new(location, layer, &fault)
}

/// Whether the reader below a decoder has come to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<AtomicBool>);

impl Ending {
    pub(super) fn reached(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Notes its end.
pub(super) struct Noting<R> {
    reader: R,
    ending: Ending,
}

impl<R> Noting<R> {
    pub(super) const fn new(reader: R, ending: Ending) -> Self {
        Self { reader, ending }
    }
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.ending.0.store(true, Relaxed);
        }
        Ok(read)
    }
}

/// Words the errors of a decoder.
pub(super) struct Layered<R> {
    location: Location,
    layer: Layer,
    decoder: R,
    ending: Ending,
}

impl<R> Layered<R> {
    pub(super) fn new(location: &Location, layer: Layer, decoder: R, ending: Ending) -> Self {
        Self {
            location: location.clone(),
            layer,
            decoder,
            ending,
        }
    }
}

impl<R: Read> Read for Layered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.decoder.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let worded = worded(&self.location, self.layer, error, &self.ending);
                    return Err(io::Error::new(worded.kind, worded));
                }
                read => return read,
            }
        }
    }
}

/// Frames of lz4 that follow each other. The decoder says 0 at the end of each, and also where one is cut off between blocks: then it has
/// met the end below, which a whole frame does not.
pub(super) struct Frames<R: Read> {
    decoder: FrameDecoder<Ahead<Noting<R>>>,
    ending: Ending,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(below: Noting<R>, ending: Ending) -> Self {
        let ahead = Ahead {
            reader: below,
            next: None,
        };
        Self {
            decoder: FrameDecoder::new(ahead),
            ending,
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.ending.reached() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.decoder.get_mut().at_end()? {
                return Ok(0);
            }
        }
    }
}

/// Can tell whether there is more.
struct Ahead<R> {
    reader: R,
    next: Option<u8>,
}

impl<R: Read> Ahead<R> {
    fn at_end(&mut self) -> io::Result<bool> {
        if self.next.is_none() {
            let mut byte = [0];
            if self.reader.read(&mut byte)? == 0 {
                return Ok(true);
            }
            self.next = Some(byte[0]);
        }
        Ok(false)
    }
}

impl<R: Read> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.next, buffer) {
            (Some(byte), [first, ..]) => {
                *first = byte;
                self.next = None;
                Ok(1)
            }
            (_, buffer) => self.reader.read(buffer),
        }
    }
}
