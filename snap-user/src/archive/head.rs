//! What a core begins with: ELF header, program headers, notes. The writer and the reader share the types.

use std::io::{self, Write};

/// A page.
pub const PAGE: u64 = 4096;
/// Bytes of an ELF header.
pub const EHDR_BYTES: u64 = 64;
/// Bytes of a program header.
pub const PHDR_BYTES: u64 = 56;
/// Bytes of a section header.
pub const SHDR_BYTES: u64 = 64;
/// `e_phnum` where the real number stands in the first section header.
pub const PN_XNUM: u16 = 0xffff;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// A stretch of a process's memory: a `PT_LOAD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub vaddr: u64,
    /// Size in memory.
    pub memory_bytes: u64,
    /// How much of it, from its begin, is in the core.
    pub file_bytes: u64,
    /// Where in the core.
    pub offset: u64,
    /// `PF_R`, `PF_W`, `PF_X`.
    pub flags: u32,
}

/// Where the data of a core begin that has so many segments and notes of so many bytes.
#[must_use]
pub fn head_bytes(segments: usize, notes: u64) -> u64 {
    (notes_offset(segments as u64 + 1) + notes).next_multiple_of(PAGE)
}

fn is_extended(headers: u64) -> bool {
    headers >= u64::from(PN_XNUM)
}

fn notes_offset(headers: u64) -> u64 {
    let section = if is_extended(headers) { SHDR_BYTES } else { 0 };
    EHDR_BYTES + headers * PHDR_BYTES + section
}

/// ELF header, program headers and notes, padded to [`head_bytes`].
#[must_use]
pub fn head(segments: &[Segment], notes: &[u8]) -> Vec<u8> {
    let length = usize::try_from(head_bytes(segments.len(), notes.len() as u64)).unwrap_or(0);
    let mut head = Vec::with_capacity(length);
    // Writing to a Vec cannot fail.
    let _ = write_headers(&mut head, segments.iter().copied(), notes.len() as u64);
    head.extend_from_slice(notes);
    head.resize(length.max(head.len()), 0);
    head
}

/// Writes ELF header and program headers, behind which are notes of so many bytes. Segments without data stand at the core's end, whatever
/// their offset: debuggers look for an ELF header where a segment begins, and at 0 would find that of the core itself.
///
/// # Errors
///
/// When they are not taken.
pub fn write_headers(
    to: &mut impl Write,
    segments: impl ExactSizeIterator<Item = Segment> + Clone,
    notes: u64,
) -> io::Result<()> {
    let headers = segments.len() as u64 + 1;
    let extended = is_extended(headers);
    let mut head = Vec::new();
    head.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    push_u16(&mut head, 4); // ET_CORE
    push_u16(&mut head, 62); // EM_X86_64
    push_u32(&mut head, 1);
    push_u64(&mut head, 0);
    push_u64(&mut head, EHDR_BYTES);
    push_u64(
        &mut head,
        if extended {
            EHDR_BYTES + headers * PHDR_BYTES
        } else {
            0
        },
    );
    push_u32(&mut head, 0);
    push_u16(&mut head, 64);
    push_u16(&mut head, 56);
    push_u16(&mut head, u16::try_from(headers).unwrap_or(PN_XNUM));
    push_u16(&mut head, 64);
    push_u16(&mut head, u16::from(extended));
    push_u16(&mut head, 0);
    push_u32(&mut head, PT_NOTE);
    push_u32(&mut head, 0);
    for field in [notes_offset(headers), 0, 0, notes, 0, 4] {
        push_u64(&mut head, field);
    }
    let data = segments.clone().filter(|segment| segment.file_bytes != 0);
    let ends = data.map(|segment| segment.offset.saturating_add(segment.file_bytes));
    let end = ends.max().unwrap_or(head_bytes(segments.len(), notes));
    for segment in segments {
        to.write_all(&head)?;
        head.clear();
        push_u32(&mut head, PT_LOAD);
        push_u32(&mut head, segment.flags);
        let (file, memory) = (segment.file_bytes, segment.memory_bytes);
        let offset = if file == 0 { end } else { segment.offset };
        for field in [offset, segment.vaddr, 0, file, memory, PAGE] {
            push_u64(&mut head, field);
        }
    }
    if extended {
        head.extend_from_slice(&[0; 44]);
        push_u32(&mut head, u32::try_from(headers).unwrap_or(u32::MAX)); // sh_info: the real e_phnum
        head.extend_from_slice(&[0; 16]);
    }
    to.write_all(&head)
}

/// Appends a note.
pub fn push_note(notes: &mut Vec<u8>, owner: &str, kind: u32, content: &[u8]) {
    // Writing to a Vec cannot fail.
    let _ = write_note(notes, owner, kind, content);
}

/// Writes a note.
///
/// # Errors
///
/// When it is not taken.
pub fn write_note(to: &mut impl Write, owner: &str, kind: u32, content: &[u8]) -> io::Result<()> {
    write_long_note(to, owner, kind, content.len() as u64, |to| to.write_all(content))
}

/// Writes a note whose content, of `length` bytes, `content` writes.
///
/// # Errors
///
/// When it is not taken.
pub fn write_long_note<W: Write>(
    to: &mut W,
    owner: &str,
    kind: u32,
    length: u64,
    content: impl FnOnce(&mut W) -> io::Result<()>,
) -> io::Result<()> {
    let mut head = Vec::new();
    let owner_bytes = u32::try_from(owner.len() + 1).unwrap_or(u32::MAX);
    for field in [owner_bytes, u32::try_from(length).unwrap_or(u32::MAX), kind] {
        push_u32(&mut head, field);
    }
    head.extend_from_slice(owner.as_bytes());
    head.push(0);
    head.resize(head.len().next_multiple_of(4), 0);
    to.write_all(&head)?;
    content(to)?;
    let padding = usize::try_from(length.next_multiple_of(4) - length).unwrap_or(0);
    to.write_all(&[0; 4][..padding])
}

/// Notes without that of `owner` and `kind`; nothing, where there is none.
#[must_use]
pub fn without_note(notes: &[u8], owner: &str, kind: u32) -> Option<Vec<u8>> {
    let mut rest = notes;
    while let Some((head, content)) = rest.split_first_chunk::<12>() {
        let [owner_bytes, length, found] =
            [0, 4, 8].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let owner_end = owner_bytes.next_multiple_of(4) as usize;
        let end = owner_end + length.next_multiple_of(4) as usize;
        let name = content.get(..owner_bytes as usize)?;
        let behind = content.get(end..)?;
        if found == kind && name.strip_suffix(b"\0") == Some(owner.as_bytes()) {
            let before = notes.len() - rest.len();
            return Some([&notes[..before], behind].concat());
        }
        rest = behind;
    }
    None
}

fn push_u16(head: &mut Vec<u8>, value: u16) {
    head.extend_from_slice(&value.to_le_bytes());
}

fn push_u32(head: &mut Vec<u8>, value: u32) {
    head.extend_from_slice(&value.to_le_bytes());
}

fn push_u64(head: &mut Vec<u8>, value: u64) {
    head.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::{push_note, without_note};

    #[test]
    fn a_note_is_taken_out() {
        let mut notes = Vec::new();
        push_note(&mut notes, "CORE", 1, b"first");
        let others = notes.clone();
        push_note(&mut notes, "FREEZEFRAME", 1, b"ours");
        let mut without = others;
        push_note(&mut notes, "CORE", 3, b"");
        push_note(&mut without, "CORE", 3, b"");
        assert_eq!(without_note(&notes, "FREEZEFRAME", 1), Some(without));
        assert_eq!(without_note(&notes, "FREEZEFRAME", 2), None);
        assert_eq!(without_note(&notes[..30], "FREEZEFRAME", 1), None);
    }
}
