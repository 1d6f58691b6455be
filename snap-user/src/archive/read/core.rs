//! The head of a core: ELF header, program headers and notes, read as they come and believed in nothing.

use std::io::Read;

use object::LittleEndian;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_CORE, FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64,
    SectionHeader64,
};
use object::pod;

use super::error::Fault;
use super::layout;
use super::member::{Input, Member, PIECE_BYTES};
use crate::archive::elsewhere::{Elsewhere, RECORD_BYTES};
use crate::archive::head::{EHDR_BYTES, PHDR_BYTES, PN_XNUM, SHDR_BYTES, Segment};
use crate::archive::{HEAD_LIMIT, NOTE_ELSEWHERE, NOTE_OWNER, NOTE_STATE};

/// The owner of a note may have a name of this length.
const OWNER_LIMIT: u32 = 64;

/// What a core begins with, checked.
#[derive(Debug)]
pub struct CoreHead {
    /// Size of the core.
    pub bytes: u64,
    /// Its segments, by address.
    pub segments: Vec<Segment>,
    /// Pages that are not in it, by address.
    pub elsewhere: Vec<Elsewhere>,
    /// Its notes, but for that of `elsewhere`.
    pub notes: Vec<u8>,
    /// BLAKE3 of the process's state that it carries.
    pub state: Option<blake3::Hash>,
}

impl CoreHead {
    /// Reads the head of the core that `member` is; `buffer` has room for a piece.
    pub(super) fn read<R: Read>(
        member: &mut Member,
        input: &mut Input<R>,
        buffer: &mut [u8],
    ) -> Result<Self, Fault> {
        let mut reader = HeadReader {
            member,
            input,
            buffer,
            head: Self {
                bytes: 0,
                segments: Vec::new(),
                elsewhere: Vec::new(),
                notes: Vec::new(),
                state: None,
            },
            has_elsewhere: false,
        };
        reader.head.bytes = reader.member.bytes();
        let count = reader.header()?;
        let (notes_offset, notes_bytes) = reader.program_headers(count)?;
        reader.notes(notes_offset, notes_bytes)?;
        let head = reader.head;
        layout::check(&head, member.done()).map_err(|what| member.damaged(input, what))?;
        Ok(head)
    }
}

struct HeadReader<'a, R> {
    member: &'a mut Member,
    input: &'a mut Input<R>,
    buffer: &'a mut [u8],
    head: CoreHead,
    has_elsewhere: bool,
}

impl<R: Read> HeadReader<'_, R> {
    fn damaged(&self, what: &'static str) -> Fault {
        self.member.damaged(self.input, what)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        let bytes = &mut self.buffer[..count];
        self.member.take(self.input, bytes)?;
        Ok(bytes)
    }

    fn within_limit(&self, end: u64) -> Result<(), Fault> {
        if end > HEAD_LIMIT {
            return Err(Fault::Limit {
                place: format!("the head of {}", self.member.name()),
                offset: self.input.offset(),
                limit: HEAD_LIMIT,
            });
        }
        if end > self.member.bytes() {
            return Err(self.damaged("its head says that it is longer than the whole core"));
        }
        Ok(())
    }

    /// Reads the ELF header, and says how many program headers follow.
    fn header(&mut self) -> Result<u64, Fault> {
        let bytes = self.take(64)?;
        let header = pod::from_bytes::<FileHeader64<LittleEndian>>(bytes).map(|(header, _)| *header);
        let header = header.map_err(|()| self.damaged("it has no ELF header"))?;
        let little = LittleEndian;
        let ident = header.e_ident;
        let ours = ident.magic == ELFMAG
            && ident.class == ELFCLASS64
            && ident.data == ELFDATA2LSB
            && header.e_type.get(little) == ET_CORE
            && header.e_machine.get(little) == EM_X86_64;
        if !ours {
            return Err(self.damaged("it is no ELF core of x86_64"));
        }
        let entry = u64::from(header.e_phentsize.get(little));
        if entry != PHDR_BYTES || header.e_phoff.get(little) != EHDR_BYTES {
            return Err(self.damaged("its program headers do not follow its ELF header"));
        }
        let count = header.e_phnum.get(little);
        if count != PN_XNUM {
            self.within_limit(EHDR_BYTES + u64::from(count) * PHDR_BYTES)?;
            return Ok(u64::from(count));
        }
        // The number stands in a section header, which comes behind them.
        let behind = header.e_shoff.get(little);
        let sizes = behind
            .checked_sub(EHDR_BYTES)
            .filter(|bytes| bytes % PHDR_BYTES == 0);
        let Some(bytes) = sizes else {
            return Err(self.damaged("its section header does not follow its program headers"));
        };
        self.within_limit(behind.saturating_add(SHDR_BYTES))?;
        Ok(bytes / PHDR_BYTES)
    }

    /// Reads the program headers, and says where the notes are.
    fn program_headers(&mut self, count: u64) -> Result<(u64, u64), Fault> {
        let little = LittleEndian;
        let mut notes = None;
        for _ in 0..count {
            let bytes = self.take(56)?;
            let header = pod::from_bytes::<ProgramHeader64<LittleEndian>>(bytes).map(|(header, _)| *header);
            let header = header.map_err(|()| self.damaged("a program header"))?;
            let (offset, file_bytes) = (header.p_offset.get(little), header.p_filesz.get(little));
            match header.p_type.get(little) {
                PT_NOTE if notes.is_none() => notes = Some((offset, file_bytes)),
                PT_LOAD => self.head.segments.push(Segment {
                    vaddr: header.p_vaddr.get(little),
                    memory_bytes: header.p_memsz.get(little),
                    file_bytes,
                    // Of a segment without data it says nothing.
                    offset: if file_bytes == 0 { 0 } else { offset },
                    flags: header.p_flags.get(little),
                }),
                _ => return Err(self.damaged("a program header is of a kind that an archive's core has not")),
            }
        }
        if count >= u64::from(PN_XNUM) {
            let bytes = self.take(64)?;
            let section =
                pod::from_bytes::<SectionHeader64<LittleEndian>>(bytes).map(|(section, _)| *section);
            let section = section.map_err(|()| self.damaged("its section header"))?;
            if u64::from(section.sh_info.get(little)) != count {
                return Err(self.damaged("its section header gives another number of program headers"));
            }
        }
        notes.ok_or_else(|| self.damaged("it has no notes"))
    }

    fn notes(&mut self, offset: u64, bytes: u64) -> Result<(), Fault> {
        let Some(end) = offset.checked_add(bytes) else {
            return Err(self.damaged("the size of its notes overflows"));
        };
        self.within_limit(end)?;
        if offset < self.member.done() {
            return Err(self.damaged("its notes lie before the end of its program headers"));
        }
        self.member.skip_to(self.input, offset, self.buffer)?;
        while self.member.done() < end {
            self.note(end)?;
        }
        Ok(())
    }

    fn note(&mut self, end: u64) -> Result<(), Fault> {
        let short = "a note ends behind the notes' end";
        if end - self.member.done() < 12 {
            return Err(self.damaged(short));
        }
        let mut head = [0; 12];
        self.member.take(self.input, &mut head)?;
        let [owner_bytes, length, kind] =
            [0, 4, 8].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if owner_bytes > OWNER_LIMIT {
            return Err(self.damaged("the name of a note's owner is too long"));
        }
        let padded = u64::from(length).next_multiple_of(4);
        let owner_padded = owner_bytes.next_multiple_of(4);
        if end - self.member.done() < u64::from(owner_padded) + padded {
            return Err(self.damaged(short));
        }
        let mut owner = [0; OWNER_LIMIT as usize];
        let owner = &mut owner[..owner_padded as usize];
        self.member.take(self.input, owner)?;
        let is_ours = owner[..owner_bytes as usize].strip_suffix(b"\0") == Some(NOTE_OWNER.as_bytes());
        if is_ours && kind == NOTE_ELSEWHERE {
            return self.elsewhere(length as usize);
        }
        self.head.notes.extend_from_slice(&head);
        self.head.notes.extend_from_slice(owner);
        let begin = self.head.notes.len();
        let mut left = padded;
        while left != 0 {
            let count = left.min(PIECE_BYTES as u64);
            let piece = &mut self.buffer[..usize::try_from(count).unwrap_or(0)];
            self.member.take(self.input, piece)?;
            self.head.notes.extend_from_slice(piece);
            left -= count;
        }
        if is_ours && kind == NOTE_STATE {
            let content = self.head.notes.get(begin..begin + length as usize);
            let sum = blake3::hash(content.unwrap_or_default());
            if self.head.state.replace(sum).is_some() {
                return Err(self.damaged("it has two notes with the process's state"));
            }
        }
        Ok(())
    }

    fn elsewhere(&mut self, length: usize) -> Result<(), Fault> {
        if !length.is_multiple_of(RECORD_BYTES) || self.has_elsewhere {
            return Err(self.damaged("its note of pages that lie elsewhere has another size, or comes twice"));
        }
        self.has_elsewhere = true;
        let mut record = [0; RECORD_BYTES];
        for _ in 0..length / RECORD_BYTES {
            self.member.take(self.input, &mut record)?;
            let record = Elsewhere::from_bytes(&record)
                .ok_or_else(|| self.damaged("pages lie in a place that this release does not know"))?;
            self.head.elsewhere.push(record);
        }
        Ok(())
    }
}
