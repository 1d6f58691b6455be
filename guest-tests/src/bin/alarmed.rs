//! Has an interval timer of real time, whose first signal waits to be taken: every thread blocks it.

use std::ptr::null_mut;

const FIRST_US: i64 = 1000;
/// The time between two signals, of which there is but the first.
const EVERY_S: i64 = 900;

/// Bit N-1: signal N.
const ALARM: u64 = 1 << (libc::SIGALRM - 1);

fn main() {
    let set = ALARM;
    // SAFETY: the set outlives the call.
    let blocked = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const set,
            null_mut::<u64>(),
            size_of_val(&set),
        )
    };
    assert_eq!(blocked, 0, "{}", std::io::Error::last_os_error());
    let time = libc::itimerval {
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: FIRST_US,
        },
        it_interval: libc::timeval {
            tv_sec: EVERY_S,
            tv_usec: 0,
        },
    };
    // SAFETY: the time outlives the call.
    let begun = unsafe {
        libc::syscall(
            libc::SYS_setitimer,
            libc::ITIMER_REAL,
            &raw const time,
            null_mut::<u8>(),
        )
    };
    assert_eq!(begun, 0, "{}", std::io::Error::last_os_error());
    while pending() & ALARM == 0 {
        std::thread::yield_now();
    }
    println!("pid {} every {EVERY_S}", std::process::id());
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("it is told");
}

fn pending() -> u64 {
    let mut set = 0u64;
    // SAFETY: the set outlives the call.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, size_of_val(&set)) };
    set
}
