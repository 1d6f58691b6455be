//! Threads that keep a count in a general register, in a vector register and in another general one, in this order, and
//! touch no memory: whatever is not of one instant does not fit together. Where the processor has protection keys, their rights
//! hold the count as well, above those of key 0; no page has any of the others.
//!
//! Usage: `registers BUSY`. So many threads count all the time, one between system calls that return at once, and two
//! between sleeps. Says on one line for each kind how many there are, and of each thread its number and where its thread
//! area is: as `GS` it has that plus one.

use std::arch::asm;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};

use guest_tests::has_protection_keys;

const ARCH_SET_GS: i32 = 0x1001;

/// How many threads have their registers set, and do nothing but count from then on.
static COUNTING: AtomicU32 = AtomicU32::new(0);

/// What a thread does between two counts.
#[derive(Clone, Copy)]
enum Kind {
    Busy,
    Calling,
    Sleeping,
}

fn main() {
    let busy = std::env::args().nth(1).expect("BUSY").parse().expect("a number");
    let kinds = [
        ("busy", Kind::Busy, busy),
        ("calling", Kind::Calling, 1),
        ("sleeping", Kind::Sleeping, 2),
    ];
    let mut line = format!("pid {}", std::process::id());
    let mut threads = 0;
    for (name, kind, count) in kinds {
        line += &format!(" {name} {count}");
        for number in 0..count {
            let (sender, receiver) = channel();
            std::thread::spawn(move || count_for_ever(kind, &sender));
            let (thread, area) = receiver.recv().expect("it says so");
            line += &format!(" {name}{number} {thread} {name}{number}_fs {area}");
        }
        threads += count;
    }
    while COUNTING.load(Ordering::Relaxed) < threads {
        std::thread::yield_now();
    }
    println!("{line}");
    loop {
        std::thread::park();
    }
}

fn count_for_ever(kind: Kind, sender: &Sender<(i32, u64)>) -> ! {
    let area: u64;
    // SAFETY: the first word of a thread's area is its own address.
    unsafe { asm!("mov {}, fs:0", out(reg) area, options(nostack, readonly, preserves_flags)) };
    // SAFETY: no program uses GS but by asking for it.
    let set = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, area + 1) };
    assert_eq!(set, 0);
    // SAFETY: asks for a number.
    sender
        .send((unsafe { libc::gettid() }, area))
        .expect("somebody listens");
    let pause = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let keys = usize::from(has_protection_keys());
    let call = match kind {
        Kind::Busy => 0,
        Kind::Calling => libc::SYS_getppid,
        Kind::Sleeping => libc::SYS_nanosleep,
    };
    // SAFETY: nothing is written but registers and `COUNTING`, and `pause` stays where it is, as this never returns.
    unsafe {
        asm!(
            "xor r12d, r12d",
            "xor r13d, r13d",
            "pxor xmm0, xmm0",
            "mov eax, 1",
            "movq xmm1, rax",
            "lock inc dword ptr [rdi]",
            "2:",
            "inc r13",
            "paddq xmm0, xmm1",
            "test r8, r8",
            "jz 3f",
            "mov eax, r13d",
            "shl eax, 2",
            "xor ecx, ecx",
            "xor edx, edx",
            "wrpkru",
            "3:",
            "inc r12",
            "test r14, r14",
            "jz 2b",
            "mov rax, r14",
            "mov rdi, r15",
            "xor esi, esi",
            "syscall",
            "jmp 2b",
            in("r14") call,
            in("r15") &raw const pause,
            in("rdi") COUNTING.as_ptr(),
            in("r8") keys,
            options(noreturn),
        )
    }
}
