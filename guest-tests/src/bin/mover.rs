//! Two regions of which one takes the other's place: whole page tables move then, and nothing else says so. Says where they
//! are; at a line of its standard input it moves the first over the second, and answers.

const BYTES: usize = 8 << 20;

fn main() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let (from, to) = (map(flags), map(flags));
    for (start, mark) in [(from, 1), (to, 2)] {
        for page in (start..start + BYTES).step_by(4096) {
            // SAFETY: inside the mapping, which is writable and nobody else's.
            unsafe { (page as *mut usize).write_volatile(page * 2 + mark) };
        }
    }
    println!("from {from} to {to} bytes {BYTES}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("it is told");
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both are mappings of that length; nobody looks at what was there.
    let moved = unsafe { libc::mremap(from as *mut _, BYTES, BYTES, flags, to as *mut libc::c_void) };
    assert_eq!(moved as usize, to, "{}", std::io::Error::last_os_error());
    println!("moved 1");
    std::io::stdin().read_line(&mut line).expect("it is told");
}

/// A mapping that begins with a page table of its own.
fn map(flags: i32) -> usize {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * BYTES, protection, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    let aligned = (start as usize).next_multiple_of(2 << 20);
    // SAFETY: the range is in the mapping. Small pages: huge ones are moved one by one.
    let advised = unsafe { libc::madvise(aligned as *mut _, BYTES, libc::MADV_NOHUGEPAGE) };
    assert_eq!(advised, 0);
    aligned
}
