//! Signals, timers, limits, credentials, scheduling.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;

use guest_tests::cupboard::{FOLDER, SIGNAL_VALUES};
use guest_tests::device::How;
use guest_tests::held::Held;
use guest_tests::image::Image;
use guest_tests::sh;
use guest_tests::target::Target;
use snap_common::abi;
use snap_common::phase::Phase;

use crate::{Cupboard, take};

const SIGHUP: u32 = 1;
const SIGUSR1: u32 = 10;
const SIGUSR2: u32 = 12;
const SIGWINCH: u32 = 28;
/// Those behind the two that the C library keeps to itself.
const SIGRTMIN: u32 = 34;

fn mask(signals: &[u32]) -> u64 {
    signals.iter().map(|signal| 1 << (signal - 1)).sum()
}

fn word(info: &[u8; 48], at: usize) -> i32 {
    i32::from_ne_bytes(info[at..at + 4].try_into().unwrap())
}

#[test]
fn signals_are_as_they_were() {
    let cupboard = Cupboard::new();
    let (image, process) = (cupboard.image(), cupboard.process());
    let threads = cupboard.threads();
    let main = &threads["cupboard"];
    let blocked = mask(&[SIGUSR1, SIGUSR2, SIGRTMIN, SIGRTMIN + 2, 14]);
    assert_eq!(main.sigblocked, blocked);
    assert_eq!(process.sigpending, mask(&[SIGUSR1, SIGRTMIN]));
    assert_eq!(main.sigpending, mask(&[SIGUSR2]));
    let shared: Vec<abi::ImageSignal> = image.records(process.pending);
    let numbers: Vec<_> = shared
        .iter()
        .map(|signal| (signal.signal, signal.flags))
        .collect();
    assert_eq!(numbers[0], (SIGUSR1, abi::SIGNAL_INFO));
    assert_eq!(numbers[1..], [(SIGRTMIN, abi::SIGNAL_INFO); 3]);
    for (signal, value) in shared[1..].iter().zip(SIGNAL_VALUES) {
        // SI_QUEUE, the sender, and what it sent.
        assert_eq!(word(&signal.info, 8), -1);
        assert_eq!(word(&signal.info, 16), cupboard.target.pid());
        assert_eq!(signal.info[24..32], value.to_ne_bytes());
    }
    let own: Vec<abi::ImageSignal> = image.records(main.pending);
    assert_eq!(
        (own.len(), own[0].signal, word(&own[0].info, 8)),
        (1, SIGUSR2, -6)
    );
    let actions: HashMap<u32, abi::ImageAction> = image
        .records::<abi::ImageAction>(process.actions)
        .into_iter()
        .map(|action| (action.signal, action))
        .collect();
    let handler = &actions[&SIGHUP];
    assert_eq!(handler.handler, cupboard.target.at("handler"));
    // SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_RESTART
    assert_eq!((handler.flags, handler.mask), (0x1c00_0004, mask(&[2, 15])));
    assert_ne!(handler.restorer, 0);
    assert_eq!(actions[&SIGWINCH].handler, 1);
    assert!(!actions.contains_key(&SIGUSR1));
    assert_eq!(
        (main.altstack, main.altstack_bytes),
        (cupboard.target.at("altstack"), 16384)
    );
    let polling = &threads["polling"];
    assert_eq!(polling.flags & abi::THREAD_SIGSAVED, abi::THREAD_SIGSAVED);
    assert_eq!(
        (polling.sigblocked, polling.sigsaved),
        (blocked | mask(&[SIGHUP]), blocked)
    );
}

#[test]
fn timers_are_as_they_were() {
    let cupboard = Cupboard::new();
    let timers: Vec<abi::ImageTimer> = cupboard.image().records(cupboard.process().timers);
    let by = |kind: u32, id: u64| {
        let id = i32::try_from(id).unwrap();
        let found = timers.iter().find(|timer| timer.kind == kind && timer.id == id);
        found.unwrap_or_else(|| panic!("{kind} {id}: {timers:?}"))
    };
    // Within a minute of what was set, which is what setting up takes at most; processor time has a tick of grace.
    let within = |timer: &abi::ImageTimer, seconds: u64| {
        let (low, high) = (
            (seconds - 45) * 1_000_000_000,
            seconds * 1_000_000_000 + 10_000_000,
        );
        assert!(
            timer.value_ns > low && timer.value_ns <= high,
            "{seconds}: {timer:?}"
        );
    };
    for (kind, seconds, every, signal) in [
        (abi::TIMER_REAL, 500, 3, 14),
        (abi::TIMER_VIRTUAL, 600, 0, 26),
        (abi::TIMER_PROF, 700, 9, 27),
    ] {
        let timer = by(kind, 0);
        within(timer, seconds);
        assert_eq!(
            (timer.interval_ns, timer.signal),
            (every * 1_000_000_000, signal),
            "{timer:?}"
        );
    }
    let posix = |name: &str| by(abi::TIMER_POSIX, cupboard.target.at(name));
    let signal = i32::try_from(SIGRTMIN).unwrap() + 2;
    let monotonic = posix("timer_monotonic");
    within(monotonic, 300);
    assert_eq!(
        (monotonic.clock, monotonic.notify, monotonic.signal),
        (1, 0, signal)
    );
    assert_eq!(
        (monotonic.sigev_value, monotonic.interval_ns),
        (0xbeef, 1_500_000_000)
    );
    let unarmed = posix("timer_unarmed");
    assert_eq!((unarmed.clock, unarmed.notify, unarmed.value_ns), (0, 1, 0));
    let thread = posix("timer_thread");
    within(thread, 400);
    assert_eq!(
        (thread.clock, thread.notify, thread.thread),
        (7, 4, cupboard.target.pid())
    );
    let process = posix("timer_process");
    within(process, 50);
    assert_eq!((process.clock, process.flags), (2, 0));
    let own = posix("timer_own");
    assert_eq!((own.clock, own.flags), (3, abi::TIMER_NO_VALUE));
    let disarmed = posix("timer_disarmed");
    assert_eq!(
        (disarmed.clock, disarmed.notify, disarmed.value_ns),
        (1, 0, 0),
        "{disarmed:?}"
    );
    assert_eq!(timers.len(), 9);
}

/// Until its signal is taken it does not run, but it will.
#[test]
fn a_timer_whose_signal_waits_is_there() {
    let target = Target::spawn("alarmed", &[]);
    let snapshot = take(&target);
    let image = Image::open(&snapshot.file);
    let process = image.process(target.pid());
    assert_eq!(process.sigpending, mask(&[14]));
    let timers: Vec<abi::ImageTimer> = image.records(process.timers);
    let [timer] = timers[..] else { panic!("{timers:?}") };
    let every = target.at("every") * 1_000_000_000;
    assert_eq!(
        (timer.kind, timer.interval_ns),
        (abi::TIMER_REAL, every),
        "{timer:?}"
    );
    assert!(timer.value_ns > 0 && timer.value_ns <= every, "{timer:?}");
}

/// What it is before the stop does not count.
#[test]
fn who_it_is_is_of_the_instant() {
    let script = "sleep 1000 >/dev/null & echo child $!; read line; exit";
    let mut parent = Target::spawn("sh", &["-c", script]);
    let child = i32::try_from(parent.at("child")).unwrap();
    let ids = |pid: i32| -> (i32, u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let ppid = line.expect("it has one").trim().parse().unwrap();
        (ppid, std::fs::metadata(format!("/proc/{pid}")).unwrap().uid())
    };
    let held = Held::begin_at(Phase::FreezeFs, &[child], How::default());
    assert_eq!(ids(child).0, parent.pid());
    parent.ask();
    let snapshot = held.release();
    let process = Image::open(&snapshot.file).process(child);
    assert_ne!(process.ppid, parent.pid());
    assert_eq!((process.ppid, process.uid), ids(child));
    sh(&format!("kill {child}"));
}

/// An `execve()` afterwards gives the first one's number to another.
#[test]
fn threads_have_the_numbers_that_they_had() {
    let mut target = Target::spawn("molter", &[]);
    let held = Held::begin(target.pid(), How::default());
    let said = target.ask();
    assert_eq!(said.trim(), format!("shell {}", target.pid()));
    let snapshot = held.release();
    let image = Image::open(&snapshot.file);
    let mut threads: Vec<_> = image
        .threads(&image.process(target.pid()))
        .iter()
        .map(|thread| thread.pid)
        .collect();
    threads.sort_unstable();
    let other = i32::try_from(target.at("thread")).unwrap();
    assert_eq!(threads, [target.pid(), other]);
}

#[test]
fn the_process_is_who_it_was() {
    let cupboard = Cupboard::new();
    let (image, process, pid) = (cupboard.image(), cupboard.process(), cupboard.target.pid());
    assert_eq!(
        (process.pgid, process.exit_signal, process.umask),
        (pid, 17, 0o027)
    );
    // SAFETY: asks for a number.
    assert_eq!(process.sid, unsafe { libc::getsid(pid) });
    assert_eq!((process.personality, process.oom_score_adj), (0x0004_0000, 123));
    assert_eq!(process.flags, abi::PROCESS_SUBREAPER);
    assert_eq!(
        (
            image.text(process.cwd).as_str(),
            image.text(process.root).as_str()
        ),
        (FOLDER, "/")
    );
    let limits: Vec<abi::ImageLimit> = image.records(process.limits);
    assert_eq!((limits.len(), limits[7].soft, limits[7].hard), (16, 700, 800));
    assert_eq!(limits[9].soft, u64::MAX);
    for (index, name) in [
        (abi::NS_CGROUP, "cgroup"),
        (abi::NS_IPC, "ipc"),
        (abi::NS_MNT, "mnt"),
        (abi::NS_NET, "net"),
        (abi::NS_PID, "pid"),
        (abi::NS_PID_FOR_CHILDREN, "pid_for_children"),
        (abi::NS_TIME, "time"),
        (abi::NS_TIME_FOR_CHILDREN, "time_for_children"),
        (abi::NS_USER, "user"),
        (abi::NS_UTS, "uts"),
    ] {
        let inode = std::fs::metadata(format!("/proc/{pid}/ns/{name}")).unwrap().ino();
        assert_eq!(u64::from(process.namespaces[index as usize]), inode, "{name}");
    }
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    assert_eq!(image.text(process.cgroup), cgroup);
}

/// Of a blob: the record, and the groups behind it.
fn credentials(cupboard: &Cupboard, blob: abi::Blob) -> (abi::ImageCredentials, Vec<u32>) {
    let bytes = cupboard.image().blob(blob);
    let head = size_of::<abi::ImageCredentials>();
    // SAFETY: made of integers alone.
    let record: abi::ImageCredentials = unsafe {
        bytes[..head]
            .as_ptr()
            .cast::<abi::ImageCredentials>()
            .read_unaligned()
    };
    let groups = bytes[head..]
        .chunks_exact(4)
        .map(|group| u32::from_ne_bytes(group.try_into().unwrap()))
        .collect();
    (record, groups)
}

#[test]
fn credentials_are_as_they_were() {
    let cupboard = Cupboard::new();
    let (own, groups) = credentials(&cupboard, cupboard.process().credentials);
    assert_eq!((own.uid, own.gid), ([0; 4], [0, 5, 6, 5]));
    assert_eq!(
        (groups.as_slice(), own.group_count, own.securebits),
        ([7, 1234].as_slice(), 2, 4)
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", cupboard.target.pid())).unwrap();
    for (name, set) in [
        ("CapInh:", own.inheritable),
        ("CapPrm:", own.permitted),
        ("CapEff:", own.effective),
        ("CapBnd:", own.bounding),
        ("CapAmb:", own.ambient),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), set, "{name}");
    }
    assert_eq!(own.bounding & 1 << 25, 0);
    let threads = cupboard.threads();
    assert_eq!(threads["batch"].credentials.length, 0);
    let (other, _) = credentials(&cupboard, threads["setuid"].credentials);
    assert_eq!(other.uid, [1, 2, 3, 2]);
}

#[test]
fn threads_are_scheduled_as_they_were() {
    let cupboard = Cupboard::new();
    let (image, threads) = (cupboard.image(), cupboard.threads());
    let main = &threads["cupboard"];
    assert_eq!(
        (main.policy, main.nice, main.rt_priority, main.death_signal),
        (0, 5, 0, 15)
    );
    let fifo = &threads["realtime"];
    assert_eq!((fifo.policy, fifo.rt_priority), (1, 7));
    assert_eq!(image.blob(fifo.cpus)[0], 1);
    assert_eq!(image.blob(main.cpus)[0] & 3, 3);
    assert_eq!((threads["batch"].policy, threads["batch"].nice), (3, -3));
    let deadline = &threads["deadline"];
    assert_eq!(deadline.policy, 6);
    let times = (deadline.dl_runtime, deadline.dl_deadline, deadline.dl_period);
    assert_eq!(times, (1_000_000, 10_000_000, 20_000_000));
    // Threads of the C library have these in common.
    let common = abi::THREAD_SEM_UNDO;
    let filtered = &threads["filtered"];
    assert_eq!(
        (filtered.seccomp, filtered.flags),
        (2, common | abi::THREAD_NO_NEW_PRIVS)
    );
    assert_eq!((main.seccomp, main.flags), (0, common));
    let loner = common | abi::THREAD_OWN_FILES | abi::THREAD_OWN_FS;
    assert_eq!(threads["loner"].flags, loner);
    for name in [
        "realtime", "batch", "deadline", "filtered", "loner", "polling", "setuid",
    ] {
        let thread = &threads[name];
        assert_eq!(u64::try_from(thread.pid).unwrap(), cupboard.target.at(name));
        // What the C library sets up for every thread.
        assert_ne!(thread.robust_list, 0, "{name}");
        assert_eq!(thread.robust_bytes, 24, "{name}");
        assert_ne!(thread.clear_child_tid, 0, "{name}");
        assert_ne!(thread.rseq, 0, "{name}");
        assert_eq!(
            (thread.rseq_bytes, thread.rseq_signature),
            (32, 0x5305_3053),
            "{name}"
        );
        assert_ne!(thread.altstack_bytes, 0, "{name}");
    }
}
