//! Threads that wait in system calls which the kernel does not start over once they were interrupted. Usage: `waiting`. Answers
//! each line of standard input with the calls, and how often each was interrupted so far. Ends when a call does anything else.

use std::io::{self, BufRead as _};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a call once, and returns what it does.
type Call = fn() -> i32;

/// One thread each; whether the call lasts for ever.
const CALLS: [(&str, bool, Call); 4] = [
    ("epoll_wait", true, || epoll_wait(-1)),
    // Seldom asleep, and often on the way in or out.
    ("epoll_wait_1ms", false, || epoll_wait(1)),
    ("semop", true, semop),
    ("sigtimedwait", true, sigtimedwait),
];

static INTERRUPTED: [AtomicU64; CALLS.len()] = [const { AtomicU64::new(0) }; CALLS.len()];

fn main() {
    let set = signals();
    // SAFETY: the set outlives the call; the threads inherit the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, null_mut()) };
    for ((name, lasts, call), interrupted) in CALLS.iter().zip(&INTERRUPTED) {
        std::thread::spawn(move || {
            loop {
                let returned = call();
                let error = io::Error::last_os_error();
                if returned == -1 && error.kind() == io::ErrorKind::Interrupted {
                    interrupted.fetch_add(1, Ordering::Relaxed);
                } else if returned != 0 || *lasts {
                    eprintln!("{name} returned {returned}: {error}");
                    std::process::exit(1);
                }
            }
        });
    }
    println!("pid {}", std::process::id());
    for _ in io::stdin().lock().lines() {
        let counts = CALLS.iter().zip(&INTERRUPTED);
        let words = counts.map(|((name, ..), count)| format!("{name} {}", count.load(Ordering::Relaxed)));
        println!("{}", words.collect::<Vec<_>>().join(" "));
    }
}

/// Waits on an epoll instance that watches nothing.
fn epoll_wait(timeout_ms: i32) -> i32 {
    thread_local! {
        // SAFETY: makes a descriptor.
        static EPOLL: i32 = unsafe { libc::epoll_create1(0) };
    }
    // SAFETY: made of integers alone.
    let mut event: libc::epoll_event = unsafe { zeroed() };
    // SAFETY: there is room for one event.
    EPOLL.with(|epoll| unsafe { libc::epoll_wait(*epoll, &raw mut event, 1, timeout_ms) })
}

/// Waits for a semaphore that nobody raises.
fn semop() -> i32 {
    thread_local! {
        // SAFETY: makes a semaphore, which is 0.
        static SEMAPHORE: i32 = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    }
    let mut lower = libc::sembuf {
        sem_num: 0,
        sem_op: -1,
        sem_flg: 0,
    };
    // SAFETY: one operation.
    SEMAPHORE.with(|semaphore| unsafe { libc::semop(*semaphore, &raw mut lower, 1) })
}

/// Waits for a signal that nobody sends.
fn sigtimedwait() -> i32 {
    let set = signals();
    // SAFETY: the set outlives the call; no information and no end is asked for.
    unsafe { libc::sigtimedwait(&raw const set, null_mut(), null()) }
}

fn signals() -> libc::sigset_t {
    // SAFETY: made of integers alone.
    let mut set = unsafe { zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: as above.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGUSR1) };
    set
}
