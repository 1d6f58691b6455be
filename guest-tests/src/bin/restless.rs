//! A process that never holds still. Usage: `restless exec|fork|clone|hugetlb|populate|exit`: calls execve() on itself,
//! forks children, starts threads, maps and unmaps huge pages, has all of its memory brought in by threads that take
//! turns at its mmap_lock, all as fast as it can; or exits after a few milliseconds.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.len() == 2 {
        println!("pid {}", std::process::id());
    }
    match arguments[1].as_str() {
        "exec" => {
            let error = Command::new(&arguments[0]).args(["exec", "again"]).exec();
            panic!("{error}");
        }
        "fork" => loop {
            // SAFETY: the child calls nothing but _exit.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
        },
        "clone" => loop {
            let threads: Vec<_> = (0..4)
                .map(|_| std::thread::spawn(|| std::hint::black_box(1)))
                .collect();
            for thread in threads {
                thread.join().expect("the thread ends");
            }
        },
        "hugetlb" => loop {
            let begin = Instant::now();
            come_and_go();
            // As long without as with.
            let until = begin.elapsed() * 2;
            while begin.elapsed() < until {
                std::hint::spin_loop();
            }
        },
        "populate" => std::thread::scope(|scope| {
            let bytes = 16 << 20;
            let memory = map(bytes, 0) as usize;
            for _ in 0..3 {
                scope.spawn(move || {
                    loop {
                        // SAFETY: mapped above, and never unmapped; no content changes.
                        let populated =
                            unsafe { libc::madvise(memory as *mut _, bytes, libc::MADV_POPULATE_WRITE) };
                        assert_eq!(populated, 0, "{}", std::io::Error::last_os_error());
                    }
                });
            }
        }),
        "exit" => std::thread::sleep(Duration::from_millis(30)),
        other => panic!("{other}"),
    }
}

fn map(bytes: usize, flags: i32) -> *mut libc::c_void {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
    );
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    memory
}

/// Maps a huge page, writes it, and unmaps it.
fn come_and_go() {
    let page = map(2 << 20, libc::MAP_HUGETLB);
    // SAFETY: mapped above.
    unsafe { page.cast::<u64>().write_volatile(1) };
    // SAFETY: ours, and nobody looks at it any more.
    assert_eq!(unsafe { libc::munmap(page, 2 << 20) }, 0);
}
