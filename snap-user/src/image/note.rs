//! The notes of an ELF core, as `fs/binfmt_elf.c` writes them.

use snap_common::abi;

use super::{Image, PAGE};

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;
/// `struct elf_prstatus` of `x86_64` up to and after `pr_reg`.
const PRSTATUS_BYTES: usize = 336;
const PRSTATUS_REGS: usize = 112;
const PRPSINFO_BYTES: usize = 136;

/// Every note of a process, its main thread first: debuggers take the first for the current one.
pub(super) fn notes(image: &Image, process: &abi::ImageProcess) -> Vec<u8> {
    let mut threads: Vec<_> = image.threads_of(process).iter().collect();
    threads.sort_by_key(|thread| (thread.pid != process.pid, thread.pid));
    let mut notes = Vec::new();
    for (number, thread) in threads.into_iter().enumerate() {
        let sets = register_sets(image.blob(thread.regs));
        let Some((_, registers)) = sets.iter().find(|(kind, _)| *kind == NT_PRSTATUS) else {
            continue; // a kernel worker has none
        };
        add(
            &mut notes,
            "CORE",
            NT_PRSTATUS,
            &prstatus(process, thread, registers),
        );
        if number == 0 {
            add(&mut notes, "CORE", NT_PRPSINFO, &prpsinfo(process));
            add(&mut notes, "CORE", NT_AUXV, image.blob(process.auxv));
            add(&mut notes, "CORE", NT_FILE, &files(image, process));
        }
        for (kind, bytes) in sets.iter().filter(|(kind, _)| *kind != NT_PRSTATUS) {
            add(
                &mut notes,
                if *kind < 0x100 { "CORE" } else { "LINUX" },
                *kind,
                bytes,
            );
        }
    }
    notes
}

/// Splits the register sets of a thread into type and bytes.
fn register_sets(mut blob: &[u8]) -> Vec<(u32, &[u8])> {
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

fn add(notes: &mut Vec<u8>, name: &str, kind: u32, bytes: &[u8]) {
    let name_bytes = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    for field in [name_bytes, length, kind] {
        notes.extend_from_slice(&field.to_le_bytes());
    }
    notes.extend_from_slice(name.as_bytes());
    notes.push(0);
    notes.resize(notes.len().next_multiple_of(4), 0);
    notes.extend_from_slice(bytes);
    notes.resize(notes.len().next_multiple_of(4), 0);
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
    put(&mut status, 40, &process.pid.to_le_bytes());
    put(
        &mut status,
        PRSTATUS_REGS,
        registers.get(..216).unwrap_or(registers),
    );
    put(&mut status, 328, &1_i32.to_le_bytes());
    status
}

fn prpsinfo(process: &abi::ImageProcess) -> Vec<u8> {
    let mut info = vec![0; PRPSINFO_BYTES];
    put(&mut info, 1, b"S");
    put(&mut info, 16, &process.uid.to_le_bytes());
    put(&mut info, 20, &process.gid.to_le_bytes());
    put(&mut info, 24, &process.pid.to_le_bytes());
    put(&mut info, 28, &process.ppid.to_le_bytes());
    put(&mut info, 40, &process.comm);
    put(&mut info, 56, &process.comm);
    info
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
