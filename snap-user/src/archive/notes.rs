//! The notes of an ELF core: those that `fs/binfmt_elf.c` writes, and ours.

use std::arch::x86_64::__cpuid_count;

use snap_common::abi;

use super::elsewhere::Elsewhere;
use super::head::{PAGE, push_note};
use super::process::Process;
use super::{NOTE_ELSEWHERE, NOTE_OWNER, NOTE_STATE};
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

/// Every note of a process, its main thread first: debuggers take the first for the current one. `json` is its state as the
/// archive has it.
#[must_use]
pub fn notes(
    image: &Image,
    process: &abi::ImageProcess,
    state: &Process,
    json: &[u8],
    elsewhere: &[Elsewhere],
) -> Vec<u8> {
    let mut threads: Vec<_> = image.threads_of(process).iter().collect();
    threads.sort_by_key(|thread| (thread.pid != process.pid, thread.pid));
    let mut notes = Vec::new();
    let mut layout = Vec::new();
    for (number, thread) in threads.into_iter().enumerate() {
        let sets = register_sets(image.blob(thread.regs));
        let Some((_, registers)) = sets.iter().find(|(kind, _)| *kind == NT_PRSTATUS) else {
            continue; // a kernel worker has none
        };
        let mut add = |kind, bytes: &[u8]| push_note(&mut notes, "CORE", kind, bytes);
        add(NT_PRSTATUS, &prstatus(process, state, thread, registers));
        if number == 0 {
            add(NT_PRPSINFO, &prpsinfo(process, state, thread));
            add(NT_SIGINFO, &[0; SIGINFO_BYTES]); // no signal stopped it
            add(NT_AUXV, &auxv(&state.auxv));
            add(NT_FILE, &files(image, process));
        }
        for (kind, bytes) in sets.iter().filter(|(kind, _)| *kind != NT_PRSTATUS) {
            let owner = if *kind < 0x100 { "CORE" } else { "LINUX" };
            push_note(&mut notes, owner, *kind, bytes);
            if *kind == NT_X86_XSTATE && layout.is_empty() {
                layout = xsave_layout(bytes);
            }
        }
    }
    if !layout.is_empty() {
        push_note(&mut notes, "LINUX", NT_X86_XSAVE_LAYOUT, &layout);
    }
    push_note(&mut notes, NOTE_OWNER, NOTE_STATE, json);
    if !elsewhere.is_empty() {
        let records: Vec<_> = elsewhere.iter().flat_map(Elsewhere::to_bytes).collect();
        push_note(&mut notes, NOTE_OWNER, NOTE_ELSEWHERE, &records);
    }
    notes
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

fn prstatus(
    process: &abi::ImageProcess,
    state: &Process,
    thread: &abi::ImageThread,
    registers: &[u8],
) -> Vec<u8> {
    let mut status = vec![0; PRSTATUS_BYTES];
    put(&mut status, 16, &thread.sigpending.to_le_bytes());
    put(&mut status, 24, &thread.sigblocked.to_le_bytes());
    put(&mut status, 32, &thread.pid.to_le_bytes());
    put(&mut status, 36, &process.ppid.to_le_bytes());
    put(&mut status, 40, &state.pgid.to_le_bytes());
    put(&mut status, 44, &state.sid.to_le_bytes());
    put(
        &mut status,
        PRSTATUS_REGS,
        registers.get(..216).unwrap_or(registers),
    );
    put(&mut status, 328, &1_i32.to_le_bytes());
    status
}

fn prpsinfo(process: &abi::ImageProcess, state: &Process, main: &abi::ImageThread) -> Vec<u8> {
    let mut info = vec![0; PRPSINFO_BYTES];
    // The number of the state, and its letter: running or sleeping.
    let asleep = main.state == abi::THREAD_ASLEEP;
    put(&mut info, 0, if asleep { &[1, b'S'] } else { &[0, b'R'] });
    put(&mut info, 3, &main.nice.to_le_bytes()[..1]);
    put(&mut info, 16, &process.uid.to_le_bytes());
    put(&mut info, 20, &process.gid.to_le_bytes());
    put(&mut info, 24, &process.pid.to_le_bytes());
    put(&mut info, 28, &process.ppid.to_le_bytes());
    put(&mut info, 32, &state.pgid.to_le_bytes());
    put(&mut info, 36, &state.sid.to_le_bytes());
    put(&mut info, 40, &process.comm);
    let arguments = unescape(state.args.join(" ").as_bytes());
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
