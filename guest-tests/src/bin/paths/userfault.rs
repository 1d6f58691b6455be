//! userfaultfd: write protection of its own, and pages that are moved.

use std::io::Read as _;

use guest_tests::userfault::{
    CONTINUE, FEATURE_MINOR_SHMEM, FEATURE_MOVE, FEATURE_WP, FEATURE_WP_SHMEM, MODE_MINOR, MODE_MISSING,
    MODE_WP, MOVE, REGISTER, WRITEPROTECT, command, open,
};

use crate::memory::{Memory, PAGE};
use crate::{Action, sys};

/// Write-protects everything, waits for a writer, and lets it go on.
pub fn protect(memory: &mut Memory) -> Action {
    let mut file = open(FEATURE_WP | FEATURE_WP_SHMEM).expect("the kernel has it");
    let (start, bytes) = (memory.start as u64, memory.bytes() as u64);
    command(&file, REGISTER, &mut [start, bytes, MODE_WP, 0]).expect("UFFDIO_REGISTER");
    Box::new(move |memory| {
        command(&file, WRITEPROTECT, &mut [start, bytes, 1]).expect("UFFDIO_WRITEPROTECT");
        memory.check();
        let (page, salt) = (memory.at(700), memory.salt());
        let writer = std::thread::spawn(move || Memory::write_unnoted(salt, page));
        let mut message = [0; 32]; // struct uffd_msg
        file.read_exact(&mut message).expect("the writer waits");
        memory.check();
        command(&file, WRITEPROTECT, &mut [start, bytes, 0]).expect("UFFDIO_WRITEPROTECT");
        writer.join().expect("it writes");
        let mut pages = memory.some();
        pages.push(page);
        memory.write(&pages);
    })
}

/// Moves the pages of a stretch elsewhere. What is shared with somebody is not moved: EBUSY.
pub fn relocate(memory: &mut Memory) -> Action {
    const FIRST: usize = 256;
    const COUNT: usize = 512;
    let Some(file) = open(FEATURE_MOVE) else {
        return Box::new(crate::touch::write);
    };
    let place = sys::map(0, COUNT * PAGE, sys::PRIVATE, -1);
    let bytes = (COUNT * PAGE) as u64;
    command(&file, REGISTER, &mut [place as u64, bytes, MODE_MISSING, 0]).expect("UFFDIO_REGISTER");
    let start = memory.start as u64;
    let all = memory.bytes() as u64;
    command(&file, REGISTER, &mut [start, all, MODE_MISSING, 0]).expect("UFFDIO_REGISTER");
    Box::new(move |memory| {
        for page in 0..COUNT {
            let (from, to) = (memory.at(FIRST + page), place + page * PAGE);
            let mut arguments = [to as u64, from as u64, PAGE as u64, 0, 0];
            match command(&file, MOVE, &mut arguments) {
                Ok(()) => memory.moved(&[from], to),
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "UFFDIO_MOVE"),
            }
        }
        memory.check();
        let pages: Vec<_> = memory
            .some()
            .into_iter()
            .filter(|page| memory.has(*page))
            .collect();
        memory.write(&pages);
    })
}

/// Maps the file once more, has its pages installed there without a page fault, and writes to them.
pub fn continue_elsewhere(memory: &mut Memory) -> Action {
    const FIRST: usize = 100;
    const LAST: usize = 400;
    let file = open(FEATURE_MINOR_SHMEM).expect("the kernel has it");
    let bytes = memory.bytes();
    Box::new(move |memory| {
        let place = sys::map(0, bytes, libc::MAP_SHARED, memory.descriptor());
        command(&file, REGISTER, &mut [place as u64, bytes as u64, MODE_MINOR, 0]).expect("UFFDIO_REGISTER");
        let (start, length) = (place + FIRST * PAGE, (LAST - FIRST) * PAGE);
        command(&file, CONTINUE, &mut [start as u64, length as u64, 0, 0]).expect("UFFDIO_CONTINUE");
        let pages = memory.span(FIRST, LAST);
        for (index, page) in pages.iter().enumerate() {
            memory.write_through(start + index * PAGE, *page);
        }
        memory.check();
    })
}
