//! A process with one of everything that the kernel keeps for a process: descriptors of every kind, signals on their way, timers,
//! limits, threads that are scheduled in every way. Says on one line the numbers of it all, and then sleeps; every line on
//! its standard input makes it close its descriptors, and answer with a line.

mod descriptors;
mod posture;
mod threads;

use std::io::BufRead as _;

use guest_tests::cupboard::FOLDER;

/// Names and numbers.
type Says = Vec<(&'static str, u64)>;

/// Fails where a system call did.
fn sure(result: i64, what: &str) -> i64 {
    assert!(result >= 0, "{what}: {}", std::io::Error::last_os_error());
    result
}

/// A descriptor, or the failure of what should have made it.
fn descriptor(result: i32, what: &str) -> i32 {
    sure(i64::from(result), what);
    result
}

fn main() {
    std::fs::create_dir_all(FOLDER).expect("the disk takes a folder");
    let mut says = Says::new();
    let held = descriptors::hold(&mut says);
    posture::take(&mut says);
    threads::start(&mut says);
    let line: Vec<_> = says
        .iter()
        .map(|(name, number)| format!("{name} {number}"))
        .collect();
    println!("{}", line.join(" "));
    for _ in std::io::stdin().lock().lines() {
        for fd in &held {
            // SAFETY: they are ours, and nobody uses them.
            unsafe { libc::close(*fd) };
        }
        println!("closed {}", held.len());
    }
}
