//! Puts pages in place of others in ways that leave no trace in the page tables, or has that done. Says where its regions are; at a line
//! of its standard input it acts, and answers.
//!
//! - `mremap`: one region takes another's place, and whole page tables move.
//! - `short`: the same with half of what a page table maps, and nothing in the other half.
//! - `joined`: what takes a place there becomes one mapping with what is in front of it.
//! - `filled`: what takes a place there becomes one mapping with what is in front of it and behind.
//! - `userfault`: pages are written, swapped out, and moved to where there were none. `moved 0` where the kernel cannot.
//! - `fork`: a child has the same pages, but for every other one, which this process has written since. Acts at once.
//! - `same`: every page of a region that KSM may merge gets the same content.
//! - `swapped`: a mapping grows, and its pages are swapped out, and brought in by who reads them. Those are `moved`; one, at `page`, is
//!   pinned then.

use guest_tests::memory::{pagemap, pin};
use guest_tests::userfault::{FEATURE_MOVE, MODE_MISSING, MOVE, REGISTER, command, open};

const BYTES: usize = 8 << 20;
const PAGE: usize = 4096;
/// What a page table maps.
const TABLE: usize = 2 << 20;

fn main() {
    let how = std::env::args().nth(1).expect("how");
    let (from, to) = match how.as_str() {
        "short" => (half(), half()),
        "swapped" => (heap(), 0),
        _ => (map(), map()),
    };
    fill(from, 1);
    let act: Box<dyn Fn() -> usize> = match how.as_str() {
        "mremap" => {
            fill(to, 2);
            Box::new(move || remap(from, to, BYTES))
        }
        "short" => {
            fill(to, 2);
            Box::new(move || remap(from, to, TABLE / 2))
        }
        "joined" => {
            part(from, to);
            Box::new(move || join(from, to))
        }
        "userfault" => register(from, to),
        "filled" => {
            fill(to, 2);
            Box::new(move || fill_gap(from, to))
        }
        "fork" => Box::new(|| 0),
        "swapped" => Box::new(move || swap(from)),
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
    let aligned = (start as usize).next_multiple_of(TABLE);
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

fn remap(from: usize, to: usize, bytes: usize) -> usize {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both are mappings of that length; nobody looks at what was there.
    let moved = unsafe { libc::mremap(from as *mut _, bytes, bytes, flags, to as *mut libc::c_void) };
    assert_eq!(moved as usize, to, "{}", std::io::Error::last_os_error());
    bytes / PAGE
}

/// A mapping that begins in the middle of what its page table maps, with nothing in front of it.
fn half() -> usize {
    let start = map();
    // SAFETY: nobody looks at what is in there.
    let unmapped = unsafe { libc::munmap(start as *mut _, TABLE / 2) };
    assert_eq!(unmapped, 0, "{}", std::io::Error::last_os_error());
    start + TABLE / 2
}

fn protect(start: usize, bytes: usize) {
    // SAFETY: the range is a mapping, and nobody writes to it any more.
    let protected = unsafe { libc::mprotect(start as *mut _, bytes, libc::PROT_READ) };
    assert_eq!(protected, 0, "{}", std::io::Error::last_os_error());
}

/// Moves the second page table of a mapping away, and puts something else in its place.
fn part(from: usize, to: usize) {
    let second = from + TABLE;
    remap(second, to, TABLE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: nothing is there.
    let there = unsafe { libc::mmap(second as *mut _, TABLE, protection, flags, -1, 0) };
    assert_eq!(there as usize, second, "{}", std::io::Error::last_os_error());
    for page in (second..second + TABLE).step_by(PAGE) {
        write(page, page * 2 + 3);
    }
}

/// Moves it back. It is of the same mapping as what is in front of it, and becomes one with it when that has the same protection.
fn join(from: usize, to: usize) -> usize {
    protect(to, TABLE);
    let moved = remap(to, from + TABLE, TABLE);
    protect(from, TABLE);
    moved
}

/// Moves two page tables, but for a page in the first of them; and then that.
fn fill_gap(from: usize, to: usize) -> usize {
    let (first, whole) = (TABLE / 2, 2 * TABLE);
    remap(from, to, first);
    let behind = first + PAGE;
    remap(from + behind, to + behind, whole - behind);
    remap(from + first, to + first, PAGE);
    whole / PAGE
}

/// Small pages at the end of the heap, which can grow.
fn heap() -> usize {
    // SAFETY: no address is involved.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    // SAFETY: nobody uses what is beyond the end of the heap.
    let start = unsafe { libc::sbrk(isize::try_from(BYTES + PAGE).expect("small")) };
    assert_ne!(start as isize, -1, "{}", std::io::Error::last_os_error());
    (start as usize).next_multiple_of(PAGE)
}

fn swap(start: usize) -> usize {
    let own = std::process::id().cast_signed();
    let is_swapped = |page: &usize| pagemap(own, *page as u64) >> 62 & 1 == 1;
    let pages = || (start..start + BYTES).step_by(PAGE);
    // SAFETY: as above.
    unsafe { libc::sbrk(isize::try_from(PAGE).expect("small")) };
    advise(start, libc::MADV_PAGEOUT);
    let swapped: Vec<usize> = pages().filter(is_swapped).collect();
    for page in pages() {
        // SAFETY: it is mapped.
        unsafe { std::ptr::read_volatile(page as *const u8) };
    }
    if let Some(page) = swapped.first() {
        // Until it ends.
        std::mem::forget(pin(*page, PAGE));
        print!("page {page} ");
    }
    swapped.len()
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
