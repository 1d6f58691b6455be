//! The members of an archive, written one after the other, with their sums at the end.

use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use serde::Serialize;

use super::{MANIFEST, SUMS, core_name, state_name};

/// Tar's unit: headers are of this size, and members are padded to it.
pub const BLOCK: u64 = 512;
static ZEROS: [u8; 1024] = [0; 1024];
/// What is written bit by bit is put in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// Counts the bytes that are written to it.
#[derive(Debug, Default)]
pub struct Count(u64);

impl Count {
    /// How many bytes `write` writes.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn of(write: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<u64> {
        let mut count = Self::default();
        write(&mut count)?;
        Ok(count.0)
    }
}

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the manifest as it stands in the archive.
///
/// # Errors
///
/// When it is not taken.
pub fn write_manifest(mut to: impl Write, manifest: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut to, manifest)?;
    to.write_all(b"\n")
}

/// Takes an archive, piece by piece, without a copy.
pub trait Sink {
    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// When it cannot be taken.
    fn put(&mut self, piece: Bytes) -> io::Result<()>;
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn put(&mut self, piece: Bytes) -> io::Result<()> {
        (**self).put(piece)
    }
}

/// Anything that can be written to, as a [`Sink`].
#[derive(Debug)]
pub struct ToWriter<W>(pub W);

impl<W: Write> Sink for ToWriter<W> {
    fn put(&mut self, piece: Bytes) -> io::Result<()> {
        self.0.write_all(&piece)
    }
}

/// How far an archive is: its members have an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Manifest,
    States,
    Cores,
}

/// Writes an archive: the manifest, the states, the cores, and [`finish`](Self::finish).
#[derive(Debug)]
pub struct MemberWriter<S> {
    sink: S,
    mtime: u64,
    stage: Stage,
    sums: String,
    open: bool,
}

impl<S: Sink> MemberWriter<S> {
    /// Begins an archive whose members are dated `mtime`, in seconds since 1970.
    pub fn new(sink: S, mtime: u64) -> Self {
        Self {
            sink,
            mtime,
            stage: Stage::Manifest,
            sums: String::new(),
            open: false,
        }
    }

    /// Writes the manifest (a [`Manifest`](super::manifest::Manifest), or the JSON of one): once, and first.
    ///
    /// # Errors
    ///
    /// When the sink does not take it, or it comes out of turn.
    pub fn manifest(&mut self, manifest: &impl Serialize) -> io::Result<()> {
        self.turn(Stage::Manifest)?;
        self.stage = Stage::States;
        let bytes = Count::of(|count| write_manifest(count, manifest))?;
        let mut member = self.begin(MANIFEST.to_owned(), bytes)?;
        member.write_all_of(|to| write_manifest(to, manifest))?;
        member.finish()
    }

    /// Begins the state of a process, of `bytes` bytes; [`Member::finish`] ends it.
    ///
    /// # Errors
    ///
    /// When the sink does not take it, or it comes out of turn.
    pub fn state(&mut self, pid: i32, bytes: u64) -> io::Result<Member<'_, S>> {
        self.turn(Stage::States)?;
        self.begin(state_name(pid), bytes)
    }

    /// Begins the core of a process, of `bytes` bytes; [`Member::finish`] ends it.
    ///
    /// # Errors
    ///
    /// When the sink does not take it, or it comes out of turn.
    pub fn core(&mut self, pid: i32, bytes: u64) -> io::Result<Member<'_, S>> {
        if self.stage == Stage::States {
            self.stage = Stage::Cores;
        }
        self.turn(Stage::Cores)?;
        self.begin(core_name(pid), bytes)
    }

    /// Writes the sums and the end of the archive.
    ///
    /// # Errors
    ///
    /// When the sink does not take it, or a member is not finished.
    pub fn finish(mut self) -> io::Result<S> {
        self.turn(self.stage)?;
        let sums = Bytes::from(std::mem::take(&mut self.sums));
        let mut member = self.begin(SUMS.to_owned(), sums.len() as u64)?;
        member.put(sums)?;
        member.finish()?;
        self.sink.put(Bytes::from_static(&ZEROS))?;
        Ok(self.sink)
    }

    fn turn(&self, stage: Stage) -> io::Result<()> {
        if self.open {
            return Err(wrong("the member before was not finished"));
        }
        if self.stage != stage {
            return Err(wrong(
                "the members of an archive are the manifest, the states and the cores, in this order",
            ));
        }
        Ok(())
    }

    fn begin(&mut self, name: String, bytes: u64) -> io::Result<Member<'_, S>> {
        let mut header = tar::Header::new_gnu();
        header.set_path(&name)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600); // it holds whatever the processes know
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_size(bytes);
        header.set_cksum();
        self.open = true;
        self.sink.put(Bytes::copy_from_slice(header.as_bytes()))?;
        Ok(Member {
            archive: self,
            name,
            bytes,
            left: bytes,
            hasher: Box::default(),
        })
    }
}

/// A member on its way into the archive. What goes in by [`put`](Self::put) is not copied.
#[derive(Debug)]
pub struct Member<'a, S> {
    archive: &'a mut MemberWriter<S>,
    name: String,
    bytes: u64,
    left: u64,
    hasher: Box<blake3::Hasher>,
}

impl<S: Sink> Member<'_, S> {
    /// Appends a piece.
    ///
    /// # Errors
    ///
    /// When the sink does not take it, or it is more than was announced.
    pub fn put(&mut self, piece: Bytes) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| wrong("a member is longer than was announced"))?;
        self.hasher.update(&piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.archive.sink.put(piece)
    }

    /// How much was appended.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.bytes - self.left
    }

    /// Appends what `write` writes, in pieces however small.
    ///
    /// # Errors
    ///
    /// As [`Member::put`], and those of `write`.
    pub fn write_all_of(
        &mut self,
        write: impl FnOnce(&mut BufWriter<&mut Self>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = BufWriter::with_capacity(PIECE_BYTES, self);
        write(&mut buffer)?;
        buffer.flush()
    }

    /// Ends the member.
    ///
    /// # Errors
    ///
    /// When the sink does not take the padding, or it is less than was announced.
    pub fn finish(self) -> io::Result<()> {
        if self.left != 0 {
            return Err(wrong("a member is shorter than was announced"));
        }
        let padding = usize::try_from(self.bytes.next_multiple_of(BLOCK) - self.bytes).unwrap_or(0);
        if padding != 0 {
            self.archive.sink.put(Bytes::from_static(&ZEROS[..padding]))?;
        }
        let sum = self.hasher.finalize().to_hex();
        self.archive.sums += &format!("{sum}  {}\n", self.name);
        self.archive.open = false;
        Ok(())
    }
}

impl<S: Sink> Write for Member<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(Bytes::copy_from_slice(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use bytes::Bytes;

    use super::{MemberWriter, ToWriter};
    use crate::archive::manifest::Manifest;

    fn manifest() -> Manifest {
        Manifest {
            manifest_version: 2,
            freezeframe_version: "0".into(),
            image_id: "0".into(),
            snapshot_id: 1,
            module_instance: "0".into(),
            boot_id: "0".into(),
            host: "host".into(),
            kernel: "6.12".into(),
            instant_ns: 0,
            instant_unix_ns: 0,
            parent: None,
            processes: Vec::new(),
            not_captured: Vec::new(),
        }
    }

    #[test]
    fn the_members_come_in_their_order_with_sums_that_are_right() {
        let mut archive = MemberWriter::new(ToWriter(Vec::new()), 7);
        archive.manifest(&manifest()).unwrap();
        let mut state = archive.state(1, 2).unwrap();
        state.put(Bytes::from_static(b"{}")).unwrap();
        state.finish().unwrap();
        let mut core = archive.core(1, 600).unwrap();
        core.put(Bytes::from(vec![1; 100])).unwrap();
        core.write_all(&[2; 500]).unwrap();
        core.finish().unwrap();
        let tar = archive.finish().unwrap().0;
        assert_eq!(tar.len() % 512, 0);
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut sums = String::new();
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if name == "BLAKE3SUMS" {
                assert_eq!(String::from_utf8(bytes).unwrap(), sums);
            } else {
                sums += &format!("{}  {name}\n", blake3::hash(&bytes));
            }
            names.push(name);
        }
        assert_eq!(names, ["manifest.json", "process.1.json", "core.1", "BLAKE3SUMS"]);
    }

    #[test]
    fn what_comes_out_of_turn_or_has_another_size_is_refused() {
        let mut archive = MemberWriter::new(ToWriter(Vec::new()), 0);
        assert!(archive.state(1, 0).is_err());
        archive.manifest(&manifest()).unwrap();
        assert!(archive.manifest(&manifest()).is_err());
        let mut core = archive.core(1, 4).unwrap();
        assert!(core.write_all(&[0; 5]).is_err());
        let mut archive = MemberWriter::new(ToWriter(Vec::new()), 0);
        archive.manifest(&manifest()).unwrap();
        assert!(archive.core(1, 4).unwrap().finish().is_err());
        assert!(archive.state(1, 0).is_err());
        assert!(archive.finish().is_err(), "a core is not finished");
    }
}
