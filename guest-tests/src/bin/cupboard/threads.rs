//! Threads: each is scheduled in another way, or has something of its own.

use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::mpsc::channel;

use super::{Says, posture, sure};

/// What a thread does before it sleeps.
type Act = fn();

const ACTS: [(&str, Act); 7] = [
    ("realtime", realtime),
    ("batch", batch),
    ("deadline", deadline),
    ("filtered", filtered),
    ("loner", loner),
    ("polling", || {}),
    ("setuid", other_user),
];

/// Starts them, and waits until each has done so.
pub fn start(says: &mut Says) {
    for (name, act) in ACTS {
        let (sender, receiver) = channel();
        let body = move || {
            act();
            // SAFETY: asks for a number.
            sender.send(unsafe { libc::gettid() }).expect("somebody listens");
            sleep(name);
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .expect("there is room for a thread");
        let tid = receiver.recv().expect("it says so");
        says.push((name, u64::try_from(tid).expect("a thread")));
    }
}

/// For good; `polling` with one more signal blocked meanwhile.
fn sleep(name: &str) {
    let mut blocked = posture::blocked();
    // SAFETY: the set is ours.
    unsafe { libc::sigaddset(&raw mut blocked, libc::SIGHUP) };
    loop {
        if name == "polling" {
            // SAFETY: no descriptors, no end.
            unsafe { libc::ppoll(null_mut(), 0, null(), &raw const blocked) };
        } else {
            std::thread::park();
        }
    }
}

fn schedule(policy: i32, priority: i32) {
    // SAFETY: made of integers alone.
    let mut how: libc::sched_param = unsafe { zeroed() };
    how.sched_priority = priority;
    // SAFETY: it outlives the call.
    sure(
        i64::from(unsafe { libc::sched_setscheduler(0, policy, &raw const how) }),
        "sched_setscheduler",
    );
}

fn realtime() {
    schedule(libc::SCHED_FIFO, 7);
    // SAFETY: made of integers alone.
    let mut first: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::CPU_SET(0, &mut first) };
    // SAFETY: it outlives the call.
    let set = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const first) };
    sure(i64::from(set), "sched_setaffinity");
}

fn batch() {
    schedule(libc::SCHED_BATCH, 0);
    // SAFETY: sets a number, of this thread.
    sure(
        i64::from(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -3) }),
        "setpriority",
    );
}

fn deadline() {
    // struct sched_attr: size, policy, flags, nice and priority, runtime, deadline, period.
    let how = [48 | 6 << 32, 0, 0, 1_000_000, 10_000_000, 20_000_000u64];
    // SAFETY: as many bytes as it says.
    sure(
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, how.as_ptr(), 0) },
        "sched_setattr",
    );
}

/// A filter that lets everything through.
fn filtered() {
    // SAFETY: has no address for an argument.
    sure(
        i64::from(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }),
        "prctl",
    );
    let mut allow = libc::sock_filter {
        code: 6,
        jt: 0,
        jf: 0,
        k: 0x7fff_0000,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut allow,
    };
    // SAFETY: the program outlives the call.
    let set = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    sure(i64::from(set), "seccomp");
}

/// Descriptors and folders of its own, and adjustments of semaphores.
fn loner() {
    // SAFETY: only this thread is concerned, and it uses no descriptor.
    sure(
        i64::from(unsafe { libc::unshare(libc::CLONE_FILES | libc::CLONE_FS) }),
        "unshare",
    );
    // SAFETY: those of this thread, which uses none: the process's can be closed for good.
    sure(
        i64::from(unsafe { libc::close_range(3, u32::MAX, 0) }),
        "close_range",
    );
    // SAFETY: makes a semaphore, which is 0.
    let semaphore = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    let mut raise = libc::sembuf {
        sem_num: 0,
        sem_op: 1,
        sem_flg: i16::try_from(libc::SEM_UNDO).expect("small"),
    };
    // SAFETY: one operation.
    sure(
        i64::from(unsafe { libc::semop(semaphore, &raw mut raise, 1) }),
        "semop",
    );
}

/// The call itself, of this thread alone: the C library would have all threads make it.
fn other_user() {
    // SAFETY: sets numbers.
    sure(
        unsafe { libc::syscall(libc::SYS_setresuid, 1, 2, 3) },
        "setresuid",
    );
}
