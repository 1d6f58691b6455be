//! Takes as many bytes of memory as each line of its standard input says, and keeps them.

fn main() {
    println!("taken 0");
    for line in std::io::stdin().lines() {
        let bytes: usize = line.expect("standard input is text").parse().expect("a number");
        take(bytes);
        println!("has");
    }
}

fn take(bytes: usize) {
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    // SAFETY: the range is the mapping. Whether it is of huge pages matters to nobody but for the time it takes.
    unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
    for page in (start as usize..start as usize + bytes).step_by(4096) {
        // SAFETY: inside the mapping, which is writable, and nobody else's.
        unsafe { (page as *mut u8).write_volatile(1) };
    }
}
