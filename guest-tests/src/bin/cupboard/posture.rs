//! Signals, timers, limits, credentials and the like.

use std::mem::zeroed;
use std::ptr::null_mut;

use guest_tests::cupboard::{FOLDER, SIGNAL_VALUES};

use super::descriptors::set;
use super::{Says, sure};

/// `CAP_SYS_TIME`.
const SYS_TIME: u64 = 25;

/// Takes it.
pub fn take(says: &mut Says) {
    handlers(says);
    pending();
    timers(says);
    limits();
    identity();
}

extern "C" fn handle(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn handlers(says: &mut Says) {
    let handler = handle as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    let stack = Box::leak(vec![0u8; 16384].into_boxed_slice());
    // SAFETY: made of integers and pointers alone.
    let mut alternate: libc::stack_t = unsafe { zeroed() };
    alternate.ss_sp = stack.as_mut_ptr().cast();
    alternate.ss_size = stack.len();
    // SAFETY: the stack is never freed.
    sure(
        i64::from(unsafe { libc::sigaltstack(&raw const alternate, null_mut()) }),
        "sigaltstack",
    );
    says.push(("altstack", stack.as_ptr() as u64));
    // SAFETY: made of integers and pointers alone.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    action.sa_mask = set(&[libc::SIGINT, libc::SIGTERM]);
    // SAFETY: the handler does nothing.
    sure(
        i64::from(unsafe { libc::sigaction(libc::SIGHUP, &raw const action, null_mut()) }),
        "sigaction",
    );
    // SAFETY: ignores a signal.
    unsafe { libc::signal(libc::SIGWINCH, libc::SIG_IGN) };
    says.push(("handler", handler as usize as u64));
}

/// What every thread blocks.
pub fn blocked() -> libc::sigset_t {
    set(&[
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGRTMIN(),
        libc::SIGRTMIN() + 2,
        libc::SIGALRM,
    ])
}

fn pending() {
    let blocked = blocked();
    let (own, signal) = (std::process::id().cast_signed(), libc::SIGRTMIN());
    // SAFETY: the set outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, null_mut()) };
    // SAFETY: sends a signal that is blocked.
    sure(i64::from(unsafe { libc::kill(own, libc::SIGUSR1) }), "kill");
    for value in SIGNAL_VALUES {
        let value = libc::sigval {
            sival_ptr: value as *mut _,
        };
        // SAFETY: as above.
        sure(
            i64::from(unsafe { libc::sigqueue(own, signal, value) }),
            "sigqueue",
        );
    }
    // SAFETY: as above.
    sure(i64::from(unsafe { libc::raise(libc::SIGUSR2) }), "raise");
}

fn interval(which: i32, seconds: i64, every: i64) {
    let time = libc::itimerval {
        it_value: libc::timeval {
            tv_sec: seconds,
            tv_usec: 0,
        },
        it_interval: libc::timeval {
            tv_sec: every,
            tv_usec: 0,
        },
    };
    // SAFETY: the time outlives the call.
    let set = unsafe { libc::syscall(libc::SYS_setitimer, which, &raw const time, null_mut::<u8>()) };
    sure(set, "setitimer");
}

/// The id of a new timer.
fn timer(clock: i32, notify: i32, signal: i32, value: u64, seconds: i64, every_ns: i64) -> u64 {
    // SAFETY: made of integers and pointers alone.
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = notify;
    event.sigev_signo = signal;
    event.sigev_value = libc::sigval {
        sival_ptr: value as *mut _,
    };
    // SAFETY: asks for a number.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut id = 0i32;
    // SAFETY: the event and the id outlive the call.
    let made = unsafe { libc::syscall(libc::SYS_timer_create, clock, &raw mut event, &raw mut id) };
    sure(made, "timer_create");
    let id = u64::try_from(id).expect("an id");
    arm(id, seconds, every_ns);
    id
}

/// With 0 seconds, disarms it.
fn arm(id: u64, seconds: i64, every_ns: i64) {
    let when = libc::itimerspec {
        it_value: libc::timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        },
        it_interval: libc::timespec {
            tv_sec: every_ns / 1_000_000_000,
            tv_nsec: every_ns % 1_000_000_000,
        },
    };
    // SAFETY: the time outlives the call.
    let set = unsafe { libc::syscall(libc::SYS_timer_settime, id, 0, &raw const when, null_mut::<u8>()) };
    sure(set, "timer_settime");
}

fn timers(says: &mut Says) {
    interval(libc::ITIMER_REAL, 500, 3);
    interval(libc::ITIMER_VIRTUAL, 600, 0);
    interval(libc::ITIMER_PROF, 700, 9);
    let signal = libc::SIGRTMIN() + 2;
    let monotonic = timer(
        libc::CLOCK_MONOTONIC,
        libc::SIGEV_SIGNAL,
        signal,
        0xbeef,
        300,
        1_500_000_000,
    );
    says.push(("timer_monotonic", monotonic));
    says.push((
        "timer_unarmed",
        timer(libc::CLOCK_REALTIME, libc::SIGEV_NONE, 0, 0, 0, 0),
    ));
    let thread = timer(libc::CLOCK_BOOTTIME, libc::SIGEV_THREAD_ID, signal, 1, 400, 0);
    says.push(("timer_thread", thread));
    let process = timer(
        libc::CLOCK_PROCESS_CPUTIME_ID,
        libc::SIGEV_SIGNAL,
        signal,
        2,
        50,
        0,
    );
    says.push(("timer_process", process));
    let own = timer(
        libc::CLOCK_THREAD_CPUTIME_ID,
        libc::SIGEV_SIGNAL,
        signal,
        3,
        60,
        0,
    );
    says.push(("timer_own", own));
    let disarmed = timer(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, signal, 4, 200, 0);
    arm(disarmed, 0, 0);
    says.push(("timer_disarmed", disarmed));
}

fn limits() {
    let limit = libc::rlimit {
        rlim_cur: 700,
        rlim_max: 800,
    };
    // SAFETY: the limit outlives the call.
    sure(
        i64::from(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }),
        "setrlimit",
    );
}

fn control(option: i32, argument: u64) {
    // SAFETY: none of the options that we set has an address for an argument.
    sure(
        i64::from(unsafe { libc::prctl(option, argument, 0, 0, 0) }),
        "prctl",
    );
}

fn identity() {
    // SAFETY: makes this process a group of its own.
    sure(i64::from(unsafe { libc::setpgid(0, 0) }), "setpgid");
    // SAFETY: sets a number.
    unsafe { libc::umask(0o027) };
    std::env::set_current_dir(FOLDER).expect("it is there");
    std::fs::write("/proc/self/oom_score_adj", "123").expect("we may");
    let groups = [7, 1234];
    // SAFETY: as many groups as there are.
    sure(
        i64::from(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }),
        "setgroups",
    );
    // SAFETY: sets numbers.
    sure(i64::from(unsafe { libc::setresgid(0, 5, 6) }), "setresgid");
    control(libc::PR_CAPBSET_DROP, SYS_TIME);
    control(libc::PR_SET_SECUREBITS, 4);
    control(libc::PR_SET_PDEATHSIG, 15);
    control(libc::PR_SET_CHILD_SUBREAPER, 1);
    // SAFETY: sets a number.
    sure(
        i64::from(unsafe { libc::personality(0x0004_0000) }),
        "personality",
    );
    // SAFETY: as above.
    sure(
        i64::from(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) }),
        "setpriority",
    );
}
