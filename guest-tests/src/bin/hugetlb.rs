//! A process with a hugetlb mapping, which cannot be snapshotted.

fn main() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            2 << 20,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    // SAFETY: mapped above.
    unsafe { address.cast::<u64>().write_volatile(1) };
    println!("address {}", address as usize);
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
