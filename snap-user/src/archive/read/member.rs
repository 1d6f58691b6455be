//! The framing: one member of a tar after the other, hashed while it passes.

use std::borrow::Cow;
use std::io::{self, BufReader, Read};

use super::error::Fault;
use crate::archive::members::BLOCK;

const BLOCK_BYTES: usize = 512;
/// The largest piece that is read at once.
pub const PIECE_BYTES: usize = 1 << 20;
/// For headers; larger pieces go past it.
const BUFFER_BYTES: usize = 64 << 10;
/// Zeros that may stand behind the end: tars are padded to records, of 10 KiB where nobody says otherwise.
const MOST_PADDING: u64 = 1 << 20;

/// The bytes of an archive.
#[derive(Debug)]
pub struct Input<R> {
    inner: BufReader<R>,
    offset: u64,
}

impl<R: Read> Input<R> {
    /// Reads from `inner`, which is at the archive's begin.
    pub fn new(inner: R) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER_BYTES, inner),
            offset: 0,
        }
    }

    /// How much was read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `buffer` as far as there are bytes, and says how far.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let count = match self.inner.read(rest) {
                Ok(0) => break,
                Ok(count) => count.min(rest.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(self.failed(cause)),
            };
            filled += count;
            self.offset += count as u64;
        }
        Ok(filled)
    }

    fn failed(&self, cause: io::Error) -> Fault {
        let offset = self.offset;
        match cause.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Fault::Wrapping { offset, cause },
            _ => Fault::Read { offset, cause },
        }
    }

    /// Fills `buffer` with what belongs to `place`.
    pub fn take(&mut self, buffer: &mut [u8], place: &str) -> Result<(), Fault> {
        if self.fill(buffer)? == buffer.len() {
            return Ok(());
        }
        Err(Fault::Truncated {
            offset: self.offset,
            place: place.to_owned(),
        })
    }

    /// Reads the header of the next member; `place` is the one before.
    pub fn header(&mut self, place: &str) -> Result<Header, Fault> {
        let at = self.offset;
        let damaged = |what| Fault::Damaged {
            place: format!("the header after {place}"),
            offset: at,
            what: Cow::Borrowed(what),
        };
        let mut block = [0; BLOCK_BYTES];
        self.take(&mut block, &format!("the header after {place}"))?;
        if block == [0; BLOCK_BYTES] {
            return Err(damaged("the archive ends before it has all its members"));
        }
        let header = tar::Header::from_byte_slice(&block);
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        if header.cksum().ok() != Some(sum) || (header.as_gnu().is_none() && header.as_ustar().is_none()) {
            return Err(damaged("it is no header of a member of a tar"));
        }
        if header.entry_type() != tar::EntryType::Regular {
            return Err(damaged(
                "the member is no regular file, and an archive has nothing else",
            ));
        }
        let name = match std::str::from_utf8(&header.path_bytes()) {
            Ok(name) if !name.contains(['/', '\0']) => name.to_owned(),
            _ => return Err(damaged("the member's name is no plain name of a file")),
        };
        let bytes = header
            .entry_size()
            .map_err(|_| damaged("the member's size is no number"))?;
        Ok(Header { name, bytes })
    }

    /// Reads what stands behind the last member: nothing but zeros, two blocks of them at the least. What is behind those may be no part
    /// of the archive.
    pub fn end(&mut self, behind: Behind, buffer: &mut [u8]) -> Result<(), Fault> {
        let place = "the end of the archive";
        let begin = self.offset;
        self.take(&mut buffer[..2 * BLOCK_BYTES], place)?;
        let mut count = 2 * BLOCK_BYTES;
        while count != 0 {
            if buffer[..count].iter().any(|byte| *byte != 0) || self.offset - begin > MOST_PADDING {
                return Err(Fault::Damaged {
                    place: place.to_owned(),
                    offset: begin,
                    what: Cow::Borrowed("something follows"),
                });
            }
            count = match behind {
                Behind::Nothing => self.fill(buffer)?,
                Behind::Anything => 0,
            };
        }
        Ok(())
    }
}

/// What may follow an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behind {
    /// The end of the file, or its padding before.
    #[default]
    Nothing,
    /// On a block device, what was there before.
    Anything,
}

/// What the header of a member says, which nobody has checked.
#[derive(Debug)]
pub struct Header {
    /// Its name: plain, without a folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// A member that is being read.
#[derive(Debug)]
pub struct Member {
    name: String,
    bytes: u64,
    left: u64,
    hasher: Box<blake3::Hasher>,
}

impl Member {
    /// Begins the member that `header` announces.
    pub fn new(header: Header) -> Self {
        Self {
            name: header.name,
            bytes: header.bytes,
            left: header.bytes,
            hasher: Box::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How much of it was read.
    pub fn done(&self) -> u64 {
        self.bytes - self.left
    }

    /// Says what is wrong with it.
    pub fn damaged<R: Read>(&self, input: &Input<R>, what: impl Into<Cow<'static, str>>) -> Fault {
        Fault::Damaged {
            place: self.name.clone(),
            offset: input.offset(),
            what: what.into(),
        }
    }

    /// Fills `buffer` with its next bytes.
    pub fn take<R: Read>(&mut self, input: &mut Input<R>, buffer: &mut [u8]) -> Result<(), Fault> {
        let Some(left) = self.left.checked_sub(buffer.len() as u64) else {
            return Err(self.damaged(input, "the member ends too early"));
        };
        input.take(buffer, &self.name)?;
        self.hasher.update(buffer);
        self.left = left;
        Ok(())
    }

    /// Reads all of it, if that is no more than `limit`; memory is taken as bytes come, not as they are announced.
    pub fn whole<R: Read>(&mut self, input: &mut Input<R>, limit: u64) -> Result<Vec<u8>, Fault> {
        if self.bytes > limit {
            return Err(Fault::Limit {
                place: self.name.clone(),
                offset: input.offset(),
                limit,
            });
        }
        let mut content = Vec::new();
        while self.left != 0 {
            let begin = content.len();
            // At most as much again as there is already, so that a lie costs no more than the truth did.
            let next = self.left.min(content.len().clamp(64 << 10, PIECE_BYTES) as u64);
            content.resize(begin + usize::try_from(next).unwrap_or(0), 0);
            self.take(input, &mut content[begin..])?;
        }
        Ok(content)
    }

    /// Reads on up to `done` bytes of it.
    pub fn skip_to<R: Read>(
        &mut self,
        input: &mut Input<R>,
        done: u64,
        buffer: &mut [u8],
    ) -> Result<(), Fault> {
        while self.done() < done {
            let count = (done - self.done()).min(buffer.len() as u64);
            let count = usize::try_from(count).unwrap_or(0);
            self.take(input, &mut buffer[..count])?;
        }
        Ok(())
    }

    /// Reads what is left of it and its padding, and returns its sum.
    pub fn finish<R: Read>(
        mut self,
        input: &mut Input<R>,
        buffer: &mut [u8],
    ) -> Result<(String, blake3::Hash), Fault> {
        self.skip_to(input, self.bytes, buffer)?;
        let padding = usize::try_from((BLOCK - self.bytes % BLOCK) % BLOCK).unwrap_or(0);
        let padding = &mut [0; BLOCK_BYTES][..padding];
        input.take(padding, &self.name)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(self.damaged(input, "something stands in the padding behind it"));
        }
        Ok((self.name, self.hasher.finalize()))
    }
}
