//! Puts pages in place of others in ways that leave no trace in the page tables, or has that done. Says where its regions are; at a line
//! of its standard input it acts, and answers.
//!
//! - `mremap`: one region takes another's place, and whole page tables move.
//! - `userfault`: pages are written, swapped out, and moved to where there were none. `moved 0` where the kernel cannot.
//! - `fork`: a child has the same pages, but for every other one, which this process has written since. Acts at once.
//! - `same`: every page of a region that KSM may merge gets the same content.

use guest_tests::userfault::{FEATURE_MOVE, MODE_MISSING, MOVE, REGISTER, command, open};

const BYTES: usize = 8 << 20;
const PAGE: usize = 4096;

fn main() {
    let (from, to) = (map(), map());
    fill(from, 1);
    let how = std::env::args().nth(1).expect("how");
    let act: Box<dyn Fn() -> usize> = match how.as_str() {
        "mremap" => {
            fill(to, 2);
            Box::new(move || remap(from, to))
        }
        "userfault" => register(from, to),
        "fork" => Box::new(|| 0),
        "same" => {
            advise(from, libc::MADV_MERGEABLE);
            Box::new(move || fill_alike(from))
        }
        other => panic!("{other}?"),
    };
    let child = if how == "fork" { fork(from) } else { 0 };
    println!("from {from} to {to} bytes {BYTES} child {child}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("it is told");
    println!("moved {}", act());
    std::io::stdin().read_line(&mut line).expect("it is told");
}

/// A mapping that begins with a page table of its own.
fn map() -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * BYTES, protection, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    let aligned = (start as usize).next_multiple_of(2 << 20);
    advise(aligned, libc::MADV_NOHUGEPAGE); // those are moved one by one
    aligned
}

fn advise(start: usize, advice: i32) {
    // SAFETY: the range is in a mapping, and nothing is dropped.
    let advised = unsafe { libc::madvise(start as *mut _, BYTES, advice) };
    assert_eq!(advised, 0, "{}", std::io::Error::last_os_error());
}

fn write(address: usize, word: usize) {
    // SAFETY: inside a mapping, which is writable and nobody else's.
    unsafe { (address as *mut usize).write_volatile(word) };
}

fn fill(start: usize, mark: usize) {
    for page in (start..start + BYTES).step_by(PAGE) {
        write(page, page * 2 + mark);
    }
}

fn fill_alike(start: usize) -> usize {
    for page in (start..start + BYTES).step_by(PAGE) {
        write(page, 0x5a5a);
    }
    BYTES / PAGE
}

fn remap(from: usize, to: usize) -> usize {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both are mappings of that length; nobody looks at what was there.
    let moved = unsafe { libc::mremap(from as *mut _, BYTES, BYTES, flags, to as *mut libc::c_void) };
    assert_eq!(moved as usize, to, "{}", std::io::Error::last_os_error());
    BYTES / PAGE
}

/// Forks, and writes every other page.
fn fork(start: usize) -> i32 {
    // SAFETY: there is no other thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no memory is involved; it ends with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        }
    }
    for page in (start..start + BYTES).step_by(2 * PAGE) {
        write(page, page * 2 + 3);
    }
    child
}

/// Has pages swapped out, and moves those that are.
fn register(from: usize, to: usize) -> Box<dyn Fn() -> usize> {
    let Some(file) = open(FEATURE_MOVE) else {
        return Box::new(|| 0);
    };
    for start in [from, to] {
        command(
            &file,
            REGISTER,
            &mut [start as u64, BYTES as u64, MODE_MISSING, 0],
        )
        .expect("UFFDIO_REGISTER");
    }
    Box::new(move || {
        fill(from, 3); // those that a snapshot has as well are not moved: EBUSY
        advise(from, libc::MADV_PAGEOUT);
        let move_one = |page: &usize| {
            let mut arguments = [(to + page) as u64, (from + page) as u64, PAGE as u64, 0, 0];
            command(&file, MOVE, &mut arguments).is_ok()
        };
        (0..BYTES).step_by(PAGE).filter(move_one).count()
    })
}
