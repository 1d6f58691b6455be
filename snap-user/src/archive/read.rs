//! Reads an archive once, from its begin to its end, and trusts nothing in it.
//!
//! [`ArchiveReader::next_item`] yields the states and the cores in the order of the archive, and nothing more when all sums were right:
//! whoever has seen the end has seen a sound archive. Memory is taken as bytes arrive, never by a size that the archive
//! merely claims.

pub mod core;
mod documents;
pub mod error;
pub mod gather;
pub mod layout;
mod manifest;
mod member;
pub mod needs;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;

pub use self::error::{Fault, ReadError};
pub use self::member::{Behind, PIECE_BYTES};

use self::core::CoreHead;
use self::layout::Extent;
use self::member::{Header, Input, Member};
use super::elsewhere::Place;
use super::manifest::Manifest;
use super::process::Process;
use super::{MANIFEST, MANIFEST_LIMIT, STATE_LIMIT, SUMS, core_name, state_name};

/// A member of an archive.
#[derive(Debug)]
pub enum Item {
    /// The state of a process.
    State(Box<State>),
    /// The head of a core; [`ArchiveReader::data`] has what follows.
    Core(i32, Box<CoreHead>),
}

/// The state of a process.
#[derive(Debug)]
pub struct State {
    /// The process.
    pub pid: i32,
    /// `process.PID.json`, as it stands in the archive.
    pub json: Vec<u8>,
    /// What it says.
    pub process: Process,
}

/// Data of a core.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The address of its first byte.
    pub vaddr: u64,
    /// Whole pages, at most [`PIECE_BYTES`].
    pub bytes: &'a [u8],
}

/// Reads an archive.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    name: String,
    input: Input<R>,
    manifest: Manifest,
    manifest_json: Vec<u8>,
    /// What BLAKE3SUMS has to say.
    sums: String,
    /// What is known of the processes from their states, which came in the manifest's order.
    states: Vec<Stated>,
    /// The cores that have not come yet: where their processes are in the manifest.
    cores: BTreeMap<i32, usize>,
    core: Option<OpenCore>,
    last: String,
    ended: bool,
    behind: Behind,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Stated {
    sum: blake3::Hash,
    threads: usize,
}

#[derive(Debug)]
struct OpenCore {
    member: Member,
    extents: std::vec::IntoIter<Extent>,
    extent: Extent,
}

impl<R: Read> ArchiveReader<R> {
    /// Begins to read the archive that errors call `name`; the manifest is known then.
    ///
    /// # Errors
    ///
    /// When there is no archive, or one of another version.
    pub fn new(inner: R, name: &str) -> Result<Self, ReadError> {
        Self::begin(inner, name).map_err(|fault| ReadError {
            archive: name.to_owned(),
            fault,
        })
    }

    fn begin(inner: R, name: &str) -> Result<Self, Fault> {
        let mut input = Input::new(inner);
        let mut buffer = vec![0; PIECE_BYTES];
        let header = match input.header("the begin") {
            Ok(header) if header.name == MANIFEST => header,
            Ok(_) => return Err(Fault::Foreign("its first member is not manifest.json")),
            Err(Fault::Damaged { .. }) => {
                return Err(Fault::Foreign("it does not begin with a plain member of a tar"));
            }
            Err(error) => return Err(error),
        };
        let mut member = Member::new(header);
        let json = member.whole(&mut input, MANIFEST_LIMIT)?;
        let manifest = manifest::parse(&json, &member, &input)?;
        let cores = manifest::check(&manifest).map_err(|what| member.damaged(&input, what))?;
        let mut reader = Self {
            name: name.to_owned(),
            input,
            manifest,
            manifest_json: json,
            sums: String::new(),
            states: Vec::new(),
            cores,
            core: None,
            last: String::new(),
            ended: false,
            behind: Behind::default(),
            buffer: Vec::new(),
        };
        std::mem::swap(&mut reader.buffer, &mut buffer);
        reader.finish(member)?;
        Ok(reader)
    }

    /// The same, of an archive that something may follow.
    #[must_use]
    pub fn followed_by(mut self, behind: Behind) -> Self {
        self.behind = behind;
        self
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest as it stands in the archive, with what this release does not know.
    #[must_use]
    pub fn manifest_json(&self) -> &[u8] {
        &self.manifest_json
    }

    /// How many bytes of the archive were read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// The next member. When there is none, the archive was read to its end, and is sound.
    ///
    /// # Errors
    ///
    /// When anything is not as it should be.
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        self.next_member().map_err(|fault| self.failed(fault))
    }

    fn next_member(&mut self) -> Result<Option<Item>, Fault> {
        if let Some(core) = self.core.take() {
            self.finish(core.member)?;
        }
        if self.ended {
            return Ok(None);
        }
        let header = self.input.header(&self.last)?;
        if let Some(entry) = self.manifest.processes.get(self.states.len()) {
            let pid = entry.pid;
            let member = self.expect(header, &state_name(pid), None)?;
            return self.state(pid, member).map(Some);
        }
        let Some(index) = core_pid(&header.name).and_then(|pid| self.cores.remove(&pid)) else {
            if self.cores.is_empty() {
                let bytes = self.sums.len() as u64;
                let member = self.expect(header, SUMS, Some(bytes))?;
                return self.end(member).map(|()| None);
            }
            return Err(self.damaged(
                &header.name,
                "it is no member of this archive, comes twice, or stands in the wrong place",
            ));
        };
        self.open_core(index, header).map(Some)
    }

    /// The next data of the core that [`next_item`](Self::next_item) has returned.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn data(&mut self) -> Result<Option<Piece<'_>>, ReadError> {
        match self.piece() {
            Ok(Some((vaddr, count))) => Ok(Some(Piece {
                vaddr,
                bytes: &self.buffer[..count],
            })),
            Ok(None) => Ok(None),
            Err(fault) => Err(self.failed(fault)),
        }
    }

    fn piece(&mut self) -> Result<Option<(u64, usize)>, Fault> {
        let Some(core) = &mut self.core else {
            return Ok(None);
        };
        if core.extent.bytes == 0 {
            let Some(extent) = core.extents.next() else {
                return Ok(None);
            };
            core.extent = extent;
            core.member
                .skip_to(&mut self.input, extent.offset, &mut self.buffer)?;
        }
        let count = core.extent.bytes.min(self.buffer.len() as u64);
        let length = usize::try_from(count).unwrap_or(0);
        core.member.take(&mut self.input, &mut self.buffer[..length])?;
        let vaddr = core.extent.vaddr;
        core.extent.vaddr += count;
        core.extent.bytes -= count;
        Ok(Some((vaddr, length)))
    }

    fn expect(&self, header: Header, name: &str, bytes: Option<u64>) -> Result<Member, Fault> {
        if header.name != name {
            return Err(self.damaged(&header.name, format!("{name} should stand here")));
        }
        if let Some(bytes) = bytes.filter(|bytes| *bytes != header.bytes) {
            return Err(self.damaged(
                name,
                format!("it has {} bytes, and should have {bytes}", header.bytes),
            ));
        }
        Ok(Member::new(header))
    }

    fn state(&mut self, pid: i32, mut member: Member) -> Result<Item, Fault> {
        let json = member.whole(&mut self.input, STATE_LIMIT)?;
        let process = documents::state(&json, pid).map_err(|what| member.damaged(&self.input, what))?;
        let sum = self.finish(member)?;
        let threads = process.threads.len();
        self.states.push(Stated { sum, threads });
        Ok(Item::State(Box::new(State { pid, json, process })))
    }

    /// Opens the core of the process that is there in the manifest.
    fn open_core(&mut self, index: usize, header: Header) -> Result<Item, Fault> {
        let (entry, stated) = (&self.manifest.processes[index], &self.states[index]);
        let pid = entry.pid;
        let mut member = self.expect(header, &entry.core, Some(entry.core_bytes))?;
        let head = CoreHead::read(&mut member, &mut self.input, &mut self.buffer)?;
        documents::check(entry, &head, stated.threads).map_err(|what| member.damaged(&self.input, what))?;
        for record in &head.elsewhere {
            let wrong = match record.place {
                Place::SameArchive => !self.cores.contains_key(&record.pid_there) && record.pid_there != pid,
                Place::Parent => self.manifest.parent.is_none(),
            };
            if wrong {
                let what = match record.place {
                    Place::SameArchive => format!(
                        "the pages at {:#x} are said to be in core.{}, which does not follow",
                        record.vaddr, record.pid_there
                    ),
                    Place::Parent => format!(
                        "the pages at {:#x} are said to be in a parent, and the archive has none",
                        record.vaddr
                    ),
                };
                return Err(member.damaged(&self.input, what));
            }
        }
        if head.state.is_some_and(|sum| sum != stated.sum) {
            return Err(member.damaged(
                &self.input,
                format!(
                    "its note with the process's state is not what {} says",
                    state_name(pid)
                ),
            ));
        }
        self.core = Some(OpenCore {
            member,
            extents: head.extents().into_iter(),
            extent: Extent {
                offset: 0,
                vaddr: 0,
                bytes: 0,
            },
        });
        Ok(Item::Core(pid, Box::new(head)))
    }

    fn finish(&mut self, member: Member) -> Result<blake3::Hash, Fault> {
        let (name, sum) = member.finish(&mut self.input, &mut self.buffer)?;
        self.sums += &format!("{}  {name}\n", sum.to_hex());
        self.last = name;
        Ok(sum)
    }

    fn end(&mut self, mut member: Member) -> Result<(), Fault> {
        let found = member.whole(&mut self.input, self.sums.len() as u64)?;
        let expected = std::mem::take(&mut self.sums);
        for (found, expected) in found.split(|byte| *byte == b'\n').zip(expected.split('\n')) {
            if found != expected.as_bytes() {
                let (sum, name) = expected.split_once("  ").unwrap_or(("", SUMS));
                return Err(self.damaged(name, format!("its BLAKE3 is {sum}, and BLAKE3SUMS has another")));
            }
        }
        if found != expected.as_bytes() {
            return Err(self.damaged(SUMS, "it is not what it should be"));
        }
        self.finish(member)?;
        self.input.end(self.behind, &mut self.buffer)?;
        self.ended = true;
        Ok(())
    }

    /// Says that a part of this archive is not as it should be.
    #[must_use]
    pub fn wrong(&self, place: &str, what: impl Into<Cow<'static, str>>) -> ReadError {
        self.failed(self.damaged(place, what))
    }

    fn failed(&self, fault: Fault) -> ReadError {
        ReadError {
            archive: self.name.clone(),
            fault,
        }
    }

    fn damaged(&self, place: &str, what: impl Into<Cow<'static, str>>) -> Fault {
        Fault::Damaged {
            place: place.to_owned(),
            offset: self.input.offset(),
            what: what.into(),
        }
    }
}

fn core_pid(name: &str) -> Option<i32> {
    let pid = name.strip_prefix("core.")?.parse().ok()?;
    (core_name(pid) == name).then_some(pid)
}

/// Reads the head of a core of `bytes` bytes that stands alone: for tests, and for fuzzing.
///
/// # Errors
///
/// As [`ArchiveReader::next_item`].
pub fn read_head(inner: impl Read, bytes: u64) -> Result<CoreHead, Fault> {
    let mut member = Member::new(Header {
        name: "core".to_owned(),
        bytes,
    });
    CoreHead::read(&mut member, &mut Input::new(inner), &mut vec![0; PIECE_BYTES])
}
