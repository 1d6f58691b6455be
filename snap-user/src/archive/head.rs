//! What a core begins with: ELF header, program headers, notes. The writer and the reader share the types.

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
pub fn head_bytes(segments: usize, notes: usize) -> u64 {
    (notes_offset(segments as u64 + 1) + notes as u64).next_multiple_of(PAGE)
}

fn is_extended(headers: u64) -> bool {
    headers >= u64::from(PN_XNUM)
}

fn notes_offset(headers: u64) -> u64 {
    let section = if is_extended(headers) { SHDR_BYTES } else { 0 };
    EHDR_BYTES + headers * PHDR_BYTES + section
}

/// ELF header, program headers and notes, padded to [`head_bytes`]. Segments without data stand at the core's end, whatever their
/// offset: debuggers look for an ELF header where a segment begins, and at 0 would find that of the core itself.
#[must_use]
pub fn head(segments: &[Segment], notes: &[u8]) -> Vec<u8> {
    let headers = segments.len() as u64 + 1;
    let extended = is_extended(headers);
    let length = usize::try_from(head_bytes(segments.len(), notes.len())).unwrap_or(0);
    let mut head = Vec::with_capacity(length);
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
    for field in [notes_offset(headers), 0, 0, notes.len() as u64, 0, 4] {
        push_u64(&mut head, field);
    }
    let data = segments.iter().filter(|segment| segment.file_bytes != 0);
    let ends = data.map(|segment| segment.offset.saturating_add(segment.file_bytes));
    let end = ends.max().unwrap_or(length as u64);
    for segment in segments {
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
    head.extend_from_slice(notes);
    head.resize(length.max(head.len()), 0);
    head
}

/// Appends a note.
pub fn push_note(notes: &mut Vec<u8>, owner: &str, kind: u32, content: &[u8]) {
    let owner_bytes = u32::try_from(owner.len() + 1).unwrap_or(u32::MAX);
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    for field in [owner_bytes, length, kind] {
        push_u32(notes, field);
    }
    notes.extend_from_slice(owner.as_bytes());
    notes.push(0);
    notes.resize(notes.len().next_multiple_of(4), 0);
    notes.extend_from_slice(content);
    notes.resize(notes.len().next_multiple_of(4), 0);
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
