//! One process as an ELF core: the layout, known in full before the first byte is written.

use std::io::{self, Read};

use snap_common::abi;

use super::{Image, PAGE, note};
use crate::device::ImageSource;

const EHDR_BYTES: u64 = 64;
const PHDR_BYTES: u64 = 56;
const SHDR_BYTES: u64 = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `e_phnum` where the real number stands in the first section header (`PN_XNUM`).
const PN_XNUM: u16 = 0xffff;
/// Holes of anonymous memory up to this size are written as zeros, which spares a segment.
const SMALL_HOLE: u64 = 64 * PAGE;

/// A stretch of a core's data.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Bytes of the image, from this offset.
    Image { offset: u64, bytes: u64 },
    /// Never touched.
    Zeros { bytes: u64 },
}

impl Part {
    fn bytes(self) -> u64 {
        match self {
            Self::Image { bytes, .. } | Self::Zeros { bytes } => bytes,
        }
    }
}

#[derive(Debug)]
struct Segment {
    vaddr: u64,
    memory_bytes: u64,
    file_bytes: u64,
    flags: u32,
}

/// The layout of the core of one process.
#[derive(Debug)]
pub struct Core {
    head: Vec<u8>,
    parts: Vec<Part>,
    bytes: u64,
}

impl Core {
    /// Lays out the core of `process`.
    #[must_use]
    pub fn new(image: &Image, process: &abi::ImageProcess) -> Self {
        let mut layout = Layout::default();
        for vma in image.vmas_of(process) {
            layout.add_vma(image, vma);
        }
        let head = head(&layout.segments, &note::notes(image, process));
        let bytes = head.len() as u64 + layout.parts.iter().map(|part| part.bytes()).sum::<u64>();
        Self {
            head,
            parts: layout.parts,
            bytes,
        }
    }

    /// Size of the core file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The core as a stream.
    pub fn reader<'a, S: ImageSource + ?Sized>(&'a self, source: &'a S) -> impl Read + 'a {
        CoreReader {
            core: self,
            source,
            head_done: 0,
            part: 0,
            part_done: 0,
        }
    }
}

#[derive(Default)]
struct Layout {
    segments: Vec<Segment>,
    parts: Vec<Part>,
}

impl Layout {
    fn add_vma(&mut self, image: &Image, vma: &abi::ImageVma) {
        let flags = segment_flags(vma.flags);
        let anonymous = vma.inode == 0 || vma.flags & abi::VMA_SHMEM != 0;
        let mut at = vma.start;
        self.open(at, flags);
        for run in image.runs_of(vma) {
            let bytes = u64::from(run.pages) * PAGE;
            let hole = run.vaddr - at;
            if hole != 0 {
                if anonymous && hole <= SMALL_HOLE && self.has_data() {
                    self.push(Part::Zeros { bytes: hole });
                } else {
                    self.leave_out(hole, flags);
                }
            }
            if run.flags & abi::RUN_UNREADABLE == 0 {
                if self.ends_in_hole() {
                    self.open(run.vaddr, flags);
                }
                self.push(Part::Image {
                    offset: image.page_offset(run.page),
                    bytes,
                });
            } else {
                // In no segment: debuggers are to say that they cannot read it, not to show zeros.
                self.open(run.vaddr + bytes, flags);
            }
            at = run.vaddr + bytes;
        }
        if at < vma.end {
            self.leave_out(vma.end - at, flags);
        }
        self.segments.retain(|segment| segment.memory_bytes != 0);
    }

    fn open(&mut self, vaddr: u64, flags: u32) {
        self.segments.push(Segment {
            vaddr,
            memory_bytes: 0,
            file_bytes: 0,
            flags,
        });
    }

    fn has_data(&self) -> bool {
        self.segments
            .last()
            .is_some_and(|segment| segment.file_bytes != 0 && !self.ends_in_hole())
    }

    fn ends_in_hole(&self) -> bool {
        self.segments
            .last()
            .is_some_and(|segment| segment.memory_bytes > segment.file_bytes)
    }

    fn push(&mut self, part: Part) {
        if let Some(segment) = self.segments.last_mut() {
            segment.memory_bytes += part.bytes();
            segment.file_bytes += part.bytes();
        }
        self.parts.push(part);
    }

    /// Memory that is not in the core: at the end of a segment, or in one of its own.
    fn leave_out(&mut self, bytes: u64, flags: u32) {
        let end = self
            .segments
            .last()
            .map_or(0, |segment| segment.vaddr + segment.memory_bytes);
        if self.has_data() {
            self.open(end, flags);
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.memory_bytes += bytes;
        }
    }
}

/// `PF_R`, `PF_W`, `PF_X` of a mapping.
fn segment_flags(flags: u32) -> u32 {
    [(abi::VMA_READ, 4), (abi::VMA_WRITE, 2), (abi::VMA_EXEC, 1)]
        .into_iter()
        .filter(|(ours, _)| flags & ours != 0)
        .map(|(_, elf)| elf)
        .sum()
}

/// ELF header, program headers and notes, padded to a page.
fn head(segments: &[Segment], notes: &[u8]) -> Vec<u8> {
    let count = segments.len() as u64 + 1;
    let extended = count >= u64::from(PN_XNUM);
    let section_offset = EHDR_BYTES + count * PHDR_BYTES;
    let notes_offset = section_offset + if extended { SHDR_BYTES } else { 0 };
    let data_offset = (notes_offset + notes.len() as u64).next_multiple_of(PAGE);
    let mut head = Vec::with_capacity(usize::try_from(data_offset).unwrap_or(0));

    head.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    push_u16(&mut head, 4); // ET_CORE
    push_u16(&mut head, 62); // EM_X86_64
    push_u32(&mut head, 1);
    push_u64(&mut head, 0);
    push_u64(&mut head, EHDR_BYTES);
    push_u64(&mut head, if extended { section_offset } else { 0 });
    push_u32(&mut head, 0);
    push_u16(&mut head, 64);
    push_u16(&mut head, 56);
    push_u16(&mut head, u16::try_from(count).unwrap_or(PN_XNUM));
    push_u16(&mut head, 64);
    push_u16(&mut head, u16::from(extended));
    push_u16(&mut head, 0);

    push_phdr(&mut head, PT_NOTE, 0, notes_offset, 0, notes.len() as u64, 0, 4);
    let mut offset = data_offset;
    for segment in segments {
        let Segment {
            vaddr,
            memory_bytes,
            file_bytes,
            flags,
        } = *segment;
        push_phdr(
            &mut head,
            PT_LOAD,
            flags,
            offset,
            vaddr,
            file_bytes,
            memory_bytes,
            PAGE,
        );
        offset += file_bytes;
    }
    if extended {
        head.extend_from_slice(&[0; 44]);
        push_u32(&mut head, u32::try_from(count).unwrap_or(u32::MAX)); // sh_info: the real e_phnum
        head.extend_from_slice(&[0; 16]);
    }
    head.extend_from_slice(notes);
    head.resize(usize::try_from(data_offset).unwrap_or(head.len()), 0);
    head
}

#[expect(clippy::too_many_arguments, reason = "the fields of Elf64_Phdr")]
fn push_phdr(
    head: &mut Vec<u8>,
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    file: u64,
    memory: u64,
    align: u64,
) {
    push_u32(head, kind);
    push_u32(head, flags);
    for field in [offset, vaddr, 0, file, memory, align] {
        push_u64(head, field);
    }
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

struct CoreReader<'a, S: ?Sized> {
    core: &'a Core,
    source: &'a S,
    head_done: usize,
    part: usize,
    part_done: u64,
}

impl<S: ImageSource + ?Sized> Read for CoreReader<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = &self.core.head[self.head_done..];
        if !head.is_empty() {
            let count = head.len().min(buffer.len());
            buffer[..count].copy_from_slice(&head[..count]);
            self.head_done += count;
            return Ok(count);
        }
        let Some(part) = self.core.parts.get(self.part).copied() else {
            return Ok(0);
        };
        let left = part.bytes() - self.part_done;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match part {
            Part::Image { offset, .. } => {
                self.source
                    .read_exact_at(&mut buffer[..count], offset + self.part_done)?;
            }
            Part::Zeros { .. } => buffer[..count].fill(0),
        }
        self.part_done += count as u64;
        if self.part_done == part.bytes() {
            self.part += 1;
            self.part_done = 0;
        }
        Ok(count)
    }
}
