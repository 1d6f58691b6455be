//! `process.PID.json`: the state of one process at the instant, but for memory and registers, which are in its core.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// Its long lists are of other types where it is written: they are too long to be held in memory.
/// One process. Addresses are in bytes; ids are those of whoever took the snapshot. In names, paths and arguments, a byte that is no UTF-8 is
/// written as `\351`, in octal, and a backslash before three octal digits as `\134`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Process")]
pub struct Process<
    Threads = Vec<Thread>,
    Mappings = Vec<Mapping>,
    Descriptors = Vec<Descriptor>,
    Files = Vec<OpenFile>,
    Sentences = Vec<String>,
> {
    /// Thread group id.
    pub pid: i32,
    /// The parent's.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Its name.
    pub comm: String,
    /// Its program.
    pub exe: String,
    /// Its arguments, as they stand in its memory.
    pub args: Vec<String>,
    /// Current folder.
    pub cwd: String,
    /// Root folder.
    pub root: String,
    /// When it was started, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_time_ns: u64,
    /// `umask`, in octal.
    pub umask: String,
    /// The signal that its parent gets when it ends.
    pub exit_signal: i32,
    /// `personality()`.
    pub personality: u32,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: i32,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub child_subreaper: bool,
    /// What it may do.
    pub credentials: Credentials,
    /// `RLIMIT_*`.
    pub limits: Vec<Limit>,
    /// Path in the cgroup v2 hierarchy.
    pub cgroup: String,
    /// Inode of each namespace, by the names of `/proc/PID/ns`.
    pub namespaces: std::collections::BTreeMap<String, u64>,
    /// Where the parts of its memory lie.
    pub layout: Layout,
    /// The auxiliary vector: type and value.
    pub auxv: Vec<(u64, u64)>,
    /// Signals whose action is not the default.
    pub signal_actions: Vec<SignalAction>,
    /// Signals that wait for any of its threads.
    pub pending: Vec<PendingSignal>,
    /// Interval and POSIX timers that are set.
    pub timers: Vec<Timer>,
    /// Its threads, the main thread first.
    pub threads: Threads,
    /// Its mappings, by address.
    pub mappings: Mappings,
    /// Its descriptors, by number.
    pub descriptors: Descriptors,
    /// What they refer to, each open file once, however many descriptors of this process refer to it.
    pub files: Files,
    /// What belonged to the instant and is not in the archive, one sentence each.
    pub not_captured: Sentences,
}

/// Ids and capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credentials {
    /// Real, effective, saved and filesystem user id.
    pub uid: [u32; 4],
    /// The same of the group.
    pub gid: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Sets of capabilities by name (`inheritable`, `permitted`, `effective`, `bounding`, `ambient`), as hexadecimal masks.
    pub capabilities: std::collections::BTreeMap<String, String>,
    /// `SECBIT_*`.
    pub securebits: u32,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// `SECCOMP_MODE_*`; the filters themselves are not captured.
    pub seccomp: u32,
}

/// A resource limit; nothing: unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// `nofile`, `stack`, … as in `prlimit`.
    pub resource: String,
    /// What counts now.
    pub soft: Option<u64>,
    /// How far it may be raised.
    pub hard: Option<u64>,
}

/// As `struct mm_struct` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Layout {
    /// Program text.
    pub start_code: u64,
    /// Its end.
    pub end_code: u64,
    /// Initialised data.
    pub start_data: u64,
    /// Its end.
    pub end_data: u64,
    /// The heap that `brk()` moves.
    pub start_brk: u64,
    /// Its end.
    pub brk: u64,
    /// Bottom of the main thread's stack.
    pub start_stack: u64,
    /// Arguments.
    pub arg_start: u64,
    /// Their end.
    pub arg_end: u64,
    /// Environment.
    pub env_start: u64,
    /// Its end.
    pub env_end: u64,
}

/// What a signal does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalAction {
    /// Its number.
    pub signal: u32,
    /// Address of the handler; 1: ignored.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Address to return by.
    pub restorer: u64,
    /// Signals that are blocked meanwhile: bit N-1 is signal N.
    pub mask: u64,
}

/// A signal that was sent and not yet taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingSignal {
    /// Its number.
    pub signal: i32,
    /// `si_code`; nothing: the kernel kept no more than the number.
    pub code: Option<i32>,
    /// `si_errno`.
    pub errno: Option<i32>,
    /// The other fields of `siginfo_t`, from its byte 16 on, as hexadecimal bytes.
    pub rest: Option<String>,
}

/// An interval timer or POSIX timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timer {
    /// `real`, `virtual`, `prof`, or the id of a POSIX timer.
    pub id: String,
    /// The clock, by its number in `<time.h>`.
    pub clock: i32,
    /// Nanoseconds until it fires next; 0: not armed; nothing: not known, it runs by processor time.
    pub value_ns: Option<u64>,
    /// Nanoseconds between firings; 0: once.
    pub interval_ns: u64,
    /// Firings since that whose signal was taken last.
    pub overruns: u32,
    /// `SIGEV_*`; nothing for interval timers.
    pub notify: Option<i32>,
    /// The signal that it sends.
    pub signal: Option<i32>,
    /// `sigev_value`.
    pub sigev_value: Option<u64>,
    /// The thread that gets the signal, for `SIGEV_THREAD_ID`.
    pub thread: Option<i32>,
}

/// One thread; its registers are in the core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Its id.
    pub tid: i32,
    /// Its name.
    pub comm: String,
    /// `parked` (was in user mode or on its way there), `asleep` (in a system call) or `kernel` (runs no user code).
    pub state: String,
    /// The number of the system call that it is in.
    pub system_call: Option<i64>,
    /// Blocked signals: bit N-1 is signal N.
    pub blocked: u64,
    /// What is blocked again when the system call ends that it is in, as `sigsuspend` and `ppoll` have it.
    pub saved_blocked: Option<u64>,
    /// Signals that wait for this thread.
    pub pending: Vec<PendingSignal>,
    /// `sigaltstack`: address, size, flags.
    pub alternate_stack: Option<(u64, u64, u32)>,
    /// Base of FS: thread-local storage.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
    /// Restartable sequences.
    pub rseq: Option<Rseq>,
    /// `set_robust_list`: address and length.
    pub robust_list: Option<(u64, u64)>,
    /// `set_tid_address`.
    pub clear_child_tid: u64,
    /// `set_thread_area`: the entries of the GDT; empty: none is in use.
    pub tls: Vec<u64>,
    /// `PR_SET_PDEATHSIG`; 0: none.
    pub parent_death_signal: u32,
    /// How it is scheduled.
    pub scheduling: Scheduling,
    /// Where they differ from the process's.
    pub credentials: Option<Credentials>,
}

/// `rseq(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rseq {
    /// Of `struct rseq`.
    pub address: u64,
    /// Its length.
    pub length: u32,
    /// In front of abort handlers.
    pub signature: u32,
}

/// `sched_getattr` and `sched_getaffinity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 for `SCHED_FIFO` and `SCHED_RR`, else 0.
    pub priority: u32,
    /// `SCHED_DEADLINE`: runtime, deadline, period in nanoseconds.
    pub deadline_ns: Option<(u64, u64, u64)>,
    /// Processors, as `taskset -c` has them: `0-3,8`.
    pub processors: String,
}

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
    /// `rwxp` or `rwxs`, as in `/proc/PID/maps`.
    pub permissions: String,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// `MAJOR:MINOR` of the file's device.
    pub device: String,
    /// Of the file.
    pub inode: u64,
    /// The file, or a name as `[stack]`; empty: anonymous.
    pub path: String,
    /// `shared_memory`, `grows_down`, `device`, `special`, `dont_dump`, `internal`.
    pub flags: Vec<String>,
    /// Pages of 4 KiB that the image has of it, wherever.
    pub pages: u64,
    /// How many of them are in the parent image.
    pub parent_pages: u64,
}

/// One descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// `FD_CLOEXEC`.
    pub cloexec: bool,
    /// The `id` of the open file.
    pub file: u64,
}

/// An open file: what `open`, `socket`, `pipe` and the like made, and `dup` and `fork` share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenFile {
    /// The same in all processes of the image that share it.
    pub id: u64,
    /// `file`, `folder`, `pipe`, `fifo`, `socket`, `epoll`, `eventfd`, `timerfd`, `signalfd`, `inotify`, `memfd`, `character_device`,
    /// `block_device`, or the name that the kernel has for others (`[io_uring]`).
    pub kind: String,
    /// Its path, or a name as `pipe:[123]`.
    pub path: String,
    /// `O_*`, without `O_CLOEXEC`.
    pub flags: u32,
    /// `S_IF*` and permissions.
    pub mode: u32,
    /// Position in bytes.
    pub position: u64,
    /// Of the inode.
    pub inode: u64,
    /// `MAJOR:MINOR` of its device.
    pub device: String,
    /// `MAJOR:MINOR` of the device that it stands for.
    pub special: Option<String>,
    /// Whether no name leads to it any more.
    pub deleted: bool,
    /// Size of the file in bytes.
    pub size: u64,
    /// Locks that this process or this open file holds.
    pub locks: Vec<Lock>,
    /// What only its kind has.
    pub details: Details,
}

/// A lock on a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lock {
    /// `posix`, `ofd`, `flock` or `lease`.
    pub kind: String,
    /// `read` or `write`.
    pub mode: String,
    /// First byte.
    pub start: u64,
    /// Last byte; nothing: to the end of the file, however long it grows.
    pub end: Option<u64>,
}

/// What only one kind of open file has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Details {
    /// Nothing more.
    #[default]
    None,
    /// A pipe or FIFO.
    Pipe {
        /// Bytes that it can hold.
        capacity: u64,
        /// What is in it, as base64; nothing: it could not be read.
        content: Option<String>,
    },
    /// A socket.
    Socket(Socket),
    /// `eventfd`.
    Eventfd {
        /// Its counter.
        count: u64,
        /// `EFD_SEMAPHORE`; nothing: the kernel does not tell (before 6.5).
        semaphore: Option<bool>,
    },
    /// `timerfd`.
    Timerfd {
        /// The clock.
        clock: i32,
        /// Expirations not yet read.
        ticks: u64,
        /// Nanoseconds until it fires; 0: not armed.
        value_ns: u64,
        /// Nanoseconds between firings.
        interval_ns: u64,
    },
    /// `signalfd`.
    Signalfd {
        /// Signals that it takes: bit N-1 is signal N.
        mask: u64,
    },
    /// `epoll`.
    Epoll {
        /// What it watches.
        targets: Vec<EpollTarget>,
    },
    /// `inotify`.
    Inotify {
        /// What it watches.
        watches: Vec<InotifyWatch>,
    },
    /// What the kernel says of others in `/proc/PID/fdinfo`.
    Text(String),
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Socket {
    /// `inet`, `inet6`, `unix`, `netlink`, `packet`, … or the number.
    pub family: String,
    /// `stream`, `dgram`, `seqpacket`, `raw`, … or the number.
    pub kind: String,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// `established`, `listen`, … of stream sockets.
    pub state: String,
    /// Its own address, as `127.0.0.1:80`, `[::1]:80`, `/run/x.sock` or `@abstract`; empty: none.
    pub local: String,
    /// The other side's.
    pub peer: String,
    /// Inode of the other end of a Unix socket; 0: none that can be told.
    pub peer_inode: u64,
    /// Bytes that came in and were not read; connections not accepted where it listens.
    pub receive_queue: u64,
    /// Bytes that were written and not taken by the other side; the backlog's limit where it listens.
    pub send_queue: u64,
    /// Whether the queues are what the kernel accounts for them, not bytes of the peers' alone.
    pub queues_are_rough: bool,
    /// Descriptors that are on their way to it in `SCM_RIGHTS`.
    pub descriptors_under_way: u32,
}

/// One entry of an epoll instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpollTarget {
    /// The descriptor that it was added by.
    pub fd: i32,
    /// `EPOLL*`.
    pub events: u32,
    /// `epoll_data`.
    pub data: u64,
}

/// One watch of an inotify instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InotifyWatch {
    /// Its number.
    pub wd: i32,
    /// `IN_*`.
    pub mask: u32,
    /// Of what is watched.
    pub inode: u64,
    /// `MAJOR:MINOR` of its device.
    pub device: String,
}
