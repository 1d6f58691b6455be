//! The notes of an ELF core: those that `fs/binfmt_elf.c` writes, and ours.

use std::arch::x86_64::__cpuid_count;
use std::io::{self, Write};

use snap_common::abi;

use super::elsewhere::{Elsewhere, RECORD_BYTES};
use super::head::{PAGE, write_long_note, write_note};
use super::{NOTE_ELSEWHERE, NOTE_OWNER, NOTE_STATE, state};
use crate::image::Image;
use crate::octal::unescape;

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;
const NT_X86_XSTATE: u32 = 0x202;
const NT_X86_XSAVE_LAYOUT: u32 = 0x205;
/// Where the area of `xsave` has `XCR0` in the kernel's notes: which of its features there are.
const XSTATE_XCR0: std::ops::Range<usize> = 464..472;
/// The first feature that is not where `fxsave` has it, too.
const XSTATE_EXTENDED: u32 = 2;
/// The leaf of CPUID that says where the features are.
const CPUID_XSTATE: u32 = 0xd;
/// `struct elf_prstatus` of `x86_64` up to and after `pr_reg`.
const PRSTATUS_BYTES: usize = 336;
const PRSTATUS_REGS: usize = 112;
const PRPSINFO_BYTES: usize = 136;
/// `pr_psargs`.
const PRPSINFO_ARGS: std::ops::Range<usize> = 56..136;
/// `siginfo_t`.
const SIGINFO_BYTES: usize = 128;

/// What the notes of a process are made of.
#[derive(Clone, Copy, Debug)]
pub struct Notes<'a> {
    /// The image.
    pub image: &'a Image,
    /// The process.
    pub process: &'a abi::ImageProcess,
    /// Its arguments.
    pub args: &'a [String],
    /// How long its state is in the archive.
    pub state_bytes: u64,
    /// Its pages that are elsewhere.
    pub elsewhere: &'a [Elsewhere],
}

impl Notes<'_> {
    /// Writes them, the main thread first: debuggers take the first for the current one. `state` writes the process's state as the archive
    /// has it.
    ///
    /// # Errors
    ///
    /// When they are not taken.
    pub fn write<W: Write>(
        &self,
        to: &mut W,
        state: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        self.of_threads(to)?;
        write_long_note(to, NOTE_OWNER, NOTE_STATE, self.state_bytes, state)?;
        if self.elsewhere.is_empty() {
            return Ok(());
        }
        let bytes = (self.elsewhere.len() * RECORD_BYTES) as u64;
        write_long_note(to, NOTE_OWNER, NOTE_ELSEWHERE, bytes, |to| {
            let mut records = self.elsewhere.iter().map(Elsewhere::to_bytes);
            records.try_for_each(|record| to.write_all(&record))
        })
    }

    fn of_threads(&self, to: &mut impl Write) -> io::Result<()> {
        let (image, process) = (self.image, self.process);
        let mut threads: Vec<_> = image.threads_of(process).iter().collect();
        threads.sort_by_key(|thread| (thread.pid != process.pid, thread.pid));
        let main = threads.first().copied();
        let mut is_first = true;
        let mut layout = Vec::new();
        for thread in threads {
            let sets = register_sets(image.blob(thread.regs));
            let Some((_, registers)) = sets.iter().find(|(kind, _)| *kind == NT_PRSTATUS) else {
                continue; // a kernel worker has none
            };
            write_note(to, "CORE", NT_PRSTATUS, &prstatus(process, thread, registers))?;
            if std::mem::take(&mut is_first) {
                self.of_process(to, Some(thread))?;
            }
            for (kind, bytes) in sets.iter().filter(|(kind, _)| *kind != NT_PRSTATUS) {
                let owner = if *kind < 0x100 { "CORE" } else { "LINUX" };
                write_note(to, owner, *kind, bytes)?;
                if *kind == NT_X86_XSTATE && layout.is_empty() {
                    layout = xsave_layout(bytes);
                }
            }
        }
        if is_first {
            self.of_process(to, main)?; // there are kernel workers alone
        }
        if layout.is_empty() {
            return Ok(());
        }
        write_note(to, "LINUX", NT_X86_XSAVE_LAYOUT, &layout)
    }

    /// What is there once. Debuggers look for it behind the registers of the first thread.
    fn of_process(&self, to: &mut impl Write, first: Option<&abi::ImageThread>) -> io::Result<()> {
        let (image, process) = (self.image, self.process);
        let mut add = |kind, bytes: &[u8]| write_note(to, "CORE", kind, bytes);
        add(NT_PRPSINFO, &prpsinfo(process, self.args, first))?;
        add(NT_SIGINFO, &[0; SIGINFO_BYTES])?; // no signal stopped it
        add(NT_AUXV, &auxv(&state::auxv(image, process)))?;
        add(NT_FILE, &files(image, process))
    }
}

/// Splits the register sets of a thread into type and bytes.
pub(crate) fn register_sets(mut blob: &[u8]) -> Vec<(u32, &[u8])> {
    let mut sets = Vec::new();
    while let Some((head, rest)) = blob.split_first_chunk::<8>() {
        let (kind, length) = (word(head, 0), word(head, 4) as usize);
        let Some(bytes) = rest.get(..length) else { break };
        sets.push((kind, bytes));
        blob = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    sets
}

fn word(bytes: &[u8; 8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(room) = into.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

fn prstatus(process: &abi::ImageProcess, thread: &abi::ImageThread, registers: &[u8]) -> Vec<u8> {
    let mut status = vec![0; PRSTATUS_BYTES];
    put(&mut status, 16, &thread.sigpending.to_le_bytes());
    put(&mut status, 24, &thread.sigblocked.to_le_bytes());
    put(&mut status, 32, &thread.pid.to_le_bytes());
    put(&mut status, 36, &process.ppid.to_le_bytes());
    put(&mut status, 40, &process.pgid.to_le_bytes());
    put(&mut status, 44, &process.sid.to_le_bytes());
    put(
        &mut status,
        PRSTATUS_REGS,
        registers.get(..216).unwrap_or(registers),
    );
    put(&mut status, 328, &1_i32.to_le_bytes());
    status
}

fn prpsinfo(process: &abi::ImageProcess, args: &[String], first: Option<&abi::ImageThread>) -> Vec<u8> {
    let mut info = vec![0; PRPSINFO_BYTES];
    // The number of the state, and its letter: running or sleeping.
    let asleep = first.is_some_and(|thread| thread.state == abi::THREAD_ASLEEP);
    put(&mut info, 0, if asleep { &[1, b'S'] } else { &[0, b'R'] });
    put(
        &mut info,
        3,
        &first.map_or(0, |thread| thread.nice).to_le_bytes()[..1],
    );
    put(&mut info, 16, &process.uid.to_le_bytes());
    put(&mut info, 20, &process.gid.to_le_bytes());
    put(&mut info, 24, &process.pid.to_le_bytes());
    put(&mut info, 28, &process.ppid.to_le_bytes());
    put(&mut info, 32, &process.pgid.to_le_bytes());
    put(&mut info, 36, &process.sid.to_le_bytes());
    put(&mut info, 40, &process.comm);
    let arguments = unescape(args.join(" ").as_bytes());
    let room = PRPSINFO_ARGS.len() - 1; // it ends with a NUL
    let shown = &arguments[..arguments.len().min(room)];
    put(
        &mut info,
        PRPSINFO_ARGS.start,
        if shown.is_empty() { &process.comm } else { shown },
    );
    info
}

/// Which feature is where in the areas of `xsave`, as kernels from 6.12 on write it: processors differ. Feature, size, offset and a
/// reserved word each.
fn xsave_layout(xstate: &[u8]) -> Vec<u8> {
    let features = xstate.get(XSTATE_XCR0).and_then(|bytes| bytes.try_into().ok());
    let features = features.map_or(0, u64::from_le_bytes);
    (XSTATE_EXTENDED..u64::BITS)
        .filter(|feature| features >> feature & 1 != 0)
        .flat_map(|feature| {
            let leaf = __cpuid_count(CPUID_XSTATE, feature);
            [feature, leaf.eax, leaf.ebx, 0].map(u32::to_le_bytes)
        })
        .flatten()
        .collect()
}

/// Its words have 64 bits in a core of 64 bits, whatever the process has.
fn auxv(pairs: &[(u64, u64)]) -> Vec<u8> {
    let end = (0, 0);
    let words = pairs.iter().chain([&end]).flat_map(|(kind, value)| [kind, value]);
    words.flat_map(|word| word.to_le_bytes()).collect()
}

/// Which file lies where: debuggers read from the files what the core leaves out.
fn files(image: &Image, process: &abi::ImageProcess) -> Vec<u8> {
    let mapped: Vec<_> = image
        .vmas_of(process)
        .iter()
        .filter(|vma| vma.inode != 0 && vma.flags & abi::VMA_SHMEM == 0)
        .collect();
    let mut note = Vec::new();
    for field in [mapped.len() as u64, PAGE] {
        note.extend_from_slice(&field.to_le_bytes());
    }
    for vma in &mapped {
        for field in [vma.start, vma.end, vma.file_offset / PAGE] {
            note.extend_from_slice(&field.to_le_bytes());
        }
    }
    for vma in &mapped {
        note.extend_from_slice(image.blob(vma.path));
        note.push(0);
    }
    note
}
