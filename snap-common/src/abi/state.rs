//! What processes and threads have besides memory and registers.

use super::Blob;

/// `setitimer(ITIMER_REAL)`, `alarm()`.
pub const TIMER_REAL: u32 = 0;
/// `setitimer(ITIMER_VIRTUAL)`.
pub const TIMER_VIRTUAL: u32 = 1;
/// `setitimer(ITIMER_PROF)`.
pub const TIMER_PROF: u32 = 2;
/// `timer_create()`.
pub const TIMER_POSIX: u32 = 3;
/// `enum ff_namespace`: cgroup.
pub const NS_CGROUP: u32 = 0;
/// `enum ff_namespace`: ipc.
pub const NS_IPC: u32 = 1;
/// `enum ff_namespace`: mnt.
pub const NS_MNT: u32 = 2;
/// `enum ff_namespace`: net.
pub const NS_NET: u32 = 3;
/// `enum ff_namespace`: pid.
pub const NS_PID: u32 = 4;
/// `enum ff_namespace`: pid for children.
pub const NS_PID_FOR_CHILDREN: u32 = 5;
/// `enum ff_namespace`: time.
pub const NS_TIME: u32 = 6;
/// `enum ff_namespace`: time for children.
pub const NS_TIME_FOR_CHILDREN: u32 = 7;
/// `enum ff_namespace`: user.
pub const NS_USER: u32 = 8;
/// `enum ff_namespace`: uts.
pub const NS_UTS: u32 = 9;
/// `enum ff_file_kind`: regular.
pub const FILE_REGULAR: u32 = 1;
/// `enum ff_file_kind`: folder.
pub const FILE_FOLDER: u32 = 2;
/// Opened with `O_PATH`.
pub const FILE_SYMLINK: u32 = 3;
/// `enum ff_file_kind`: character.
pub const FILE_CHARACTER: u32 = 4;
/// `enum ff_file_kind`: block.
pub const FILE_BLOCK: u32 = 5;
/// `enum ff_file_kind`: pipe.
pub const FILE_PIPE: u32 = 6;
/// `enum ff_file_kind`: fifo.
pub const FILE_FIFO: u32 = 7;
/// `enum ff_file_kind`: socket.
pub const FILE_SOCKET: u32 = 8;
/// `enum ff_file_kind`: epoll.
pub const FILE_EPOLL: u32 = 9;
/// `enum ff_file_kind`: eventfd.
pub const FILE_EVENTFD: u32 = 10;
/// `enum ff_file_kind`: timerfd.
pub const FILE_TIMERFD: u32 = 11;
/// `enum ff_file_kind`: signalfd.
pub const FILE_SIGNALFD: u32 = 12;
/// `enum ff_file_kind`: inotify.
pub const FILE_INOTIFY: u32 = 13;
/// `enum ff_file_kind`: memfd.
pub const FILE_MEMFD: u32 = 14;
/// `path` has the kernel's name for it, as `anon_inode:[io_uring]`.
pub const FILE_OTHER: u32 = 15;
/// `enum ff_lock_kind`: posix.
pub const LOCK_POSIX: u32 = 1;
/// `enum ff_lock_kind`: ofd.
pub const LOCK_OFD: u32 = 2;
/// `enum ff_lock_kind`: flock.
pub const LOCK_FLOCK: u32 = 3;
/// `enum ff_lock_kind`: lease.
pub const LOCK_LEASE: u32 = 4;
/// `info` is valid; else the kernel kept the number alone.
pub const SIGNAL_INFO: u32 = 1 << 0;
/// `value_ns` is not known: the timer runs by a clock that is not read in the stop (processor time).
pub const TIMER_NO_VALUE: u32 = 1 << 0;
/// Has contexts of `io_setup()`: what is submitted there is not in the image.
pub const PROCESS_AIO: u32 = 1 << 0;
/// Has keyrings of its own: they are not in the image.
pub const PROCESS_KEYRINGS: u32 = 1 << 1;
/// The process was past its end of files, signals or the like: what is missing is 0 or empty.
pub const PROCESS_PARTIAL: u32 = 1 << 2;
/// `PR_SET_CHILD_SUBREAPER`.
pub const PROCESS_SUBREAPER: u32 = 1 << 3;
/// Words of its auxiliary vector have 32 bits; registers are those of 64 bits all the same.
pub const PROCESS_32BIT: u32 = 1 << 4;
/// It is closed on `execve()`.
pub const FD_CLOEXEC: u32 = 1 << 0;
/// `text` was read after the instant, and is not what it was before it.
pub const NOTE_TEXT_LATE: u32 = 1 << 0;
/// `text` is not all that there is.
pub const NOTE_TEXT_CUT: u32 = 1 << 1;
/// What is in the pipe is not in the image: somebody was about to write or read.
pub const NOTE_PIPE_BUSY: u32 = 1 << 2;
/// What is in the pipe is not in the image: notifications of the kernel, or pages that cannot be held.
pub const NOTE_PIPE_ODD: u32 = 1 << 3;
/// What is in the pipe is not in the image: all pipes together hold more than [`PIPE_BYTES`].
pub const NOTE_PIPE_FULL: u32 = 1 << 4;
/// What is in the pipe was not copied into it: bytes may have changed since, where they come from.
pub const NOTE_PIPE_LENT: u32 = 1 << 5;
/// On tmpfs: what is in the file is in the image only where it is mapped.
pub const NOTE_IN_MEMORY: u32 = 1 << 6;
/// No name leads to it any more.
pub const NOTE_DELETED: u32 = 1 << 7;
/// It takes connections.
pub const SOCKET_LISTENS: u32 = 1 << 0;
/// `local` and `peer` were read after the instant.
pub const SOCKET_LATE: u32 = 1 << 1;
/// The queues are what the kernel accounts for them, not bytes of the peers' alone.
pub const SOCKET_ROUGH: u32 = 1 << 2;
/// `PR_SET_NO_NEW_PRIVS`.
pub const THREAD_NO_NEW_PRIVS: u32 = 1 << 0;
/// `sigsaved` is valid.
pub const THREAD_SIGSAVED: u32 = 1 << 1;
/// By `ptrace(2)`.
pub const THREAD_TRACED: u32 = 1 << 2;
/// It has descriptors other than its process's: they are not in the image.
pub const THREAD_OWN_FILES: u32 = 1 << 3;
/// It has folders and umask other than its process's: they are not in the image.
pub const THREAD_OWN_FS: u32 = 1 << 4;
/// It has used `io_uring`: what is submitted there is not in the image.
pub const THREAD_IO_URING: u32 = 1 << 5;
/// Has `SEM_UNDO` adjustments: they are not in the image.
pub const THREAD_SEM_UNDO: u32 = 1 << 6;
/// Of another process, which has the memory of this one.
pub const THREAD_FOREIGN: u32 = 1 << 7;
/// How many namespaces there are.
pub const NS_COUNT: u32 = 10;
/// The image has as many bytes of what is in pipes at most.
pub const PIPE_BYTES: u32 = 8 << 20;
/// The targets got more descriptors, timers or signals than there was room for, time and again; detail is the bytes (EAGAIN).
pub const REASON_STATE_ROOM: u32 = 39;
/// Signals, timers, credentials, descriptors and the like are in the image.
pub const FEATURE_STATE: u64 = 1 << 12;

/// `struct ff_image_credentials`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageCredentials {
    /// Real, effective, saved, of filesystems.
    pub uid: [u32; 4],
    /// Gid.
    pub gid: [u32; 4],
    /// Capabilities: bit N is capability N.
    pub inheritable: u64,
    /// Permitted.
    pub permitted: u64,
    /// Effective.
    pub effective: u64,
    /// Bounding.
    pub bounding: u64,
    /// Ambient.
    pub ambient: u64,
    /// Securebits.
    pub securebits: u32,
    /// Group count.
    pub group_count: u32,
}

/// `struct ff_image_limit`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageLimit {
    /// Soft.
    pub soft: u64,
    /// Hard.
    pub hard: u64,
}

/// `struct ff_image_action`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageAction {
    /// Signal.
    pub signal: u32,
    /// Reserved.
    pub reserved: u32,
    /// 1: ignored.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Restorer.
    pub restorer: u64,
    /// Mask.
    pub mask: u64,
}

/// `struct ff_image_signal`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageSignal {
    /// Signal.
    pub signal: u32,
    /// `SIGNAL_*`.
    pub flags: u32,
    /// `siginfo_t` up to where its padding begins.
    pub info: [u8; 48],
}

/// `struct ff_image_timer`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageTimer {
    /// Enum `ff_timer_kind`.
    pub kind: u32,
    /// `TIMER_*`.
    pub flags: u32,
    /// Of a POSIX timer.
    pub id: i32,
    /// As in `<time.h>`; for setitimer() that which it stands for, processor time for the latter two.
    pub clock: i32,
    /// `SIGEV_*` of a POSIX timer.
    pub notify: i32,
    /// Signal.
    pub signal: i32,
    /// `TIMER_POSIX` with `SIGEV_THREAD_ID`, else 0.
    pub thread: i32,
    /// Overruns.
    pub overruns: u32,
    /// Sigev value.
    pub sigev_value: u64,
    /// Until it fires; 0: it is not armed.
    pub value_ns: u64,
    /// Interval ns.
    pub interval_ns: u64,
}

/// `struct ff_image_fd`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageFd {
    /// Fd.
    pub fd: i32,
    /// `FD_*`.
    pub flags: u32,
    /// Index into files.
    pub file: u32,
    /// Reserved.
    pub reserved: u32,
}

/// `struct ff_image_file`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageFile {
    /// From 1.
    pub id: u64,
    /// Enum `ff_file_kind`.
    pub kind: u32,
    /// `NOTE_*`.
    pub notes: u32,
    /// `O_*`.
    pub flags: u32,
    /// `S_IF*` and permissions.
    pub mode: u32,
    /// In bytes.
    pub position: u64,
    /// Of the file in bytes.
    pub size: u64,
    /// Inode.
    pub inode: u64,
    /// Where the inode is.
    pub dev_major: u32,
    /// Dev minor.
    pub dev_minor: u32,
    /// Of a device.
    pub rdev_major: u32,
    /// Rdev minor.
    pub rdev_minor: u32,
    /// Of a pipe, in bytes.
    pub capacity: u64,
    /// As the caller would name it.
    pub path: Blob,
    /// Struct `ff_image_lock`\[\].
    pub locks: Blob,
    /// What `/proc/PID/fdinfo` says of its kind.
    pub text: Blob,
    /// The bytes in it.
    pub pipe: Blob,
    /// Struct `ff_image_socket`.
    pub socket: Blob,
}

/// `struct ff_image_lock`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageLock {
    /// Enum `ff_lock_kind`.
    pub kind: u32,
    /// 1: exclusive; 0: shared.
    pub write: u32,
    /// `LOCK_POSIX`: index of the process; else -1: whoever has the open file.
    pub holder: i32,
    /// Reserved.
    pub reserved: u32,
    /// Start.
    pub start: u64,
    /// Last byte; all ones: however long the file grows.
    pub end: u64,
}

/// `struct ff_image_socket`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageSocket {
    /// `AF_*`.
    pub family: u32,
    /// `SOCK_*`.
    pub kind: u32,
    /// Protocol.
    pub protocol: u32,
    /// `TCP_*`, as `<linux/tcp.h>` numbers them (unix(7) and others use some of them, too).
    pub state: u32,
    /// `SOCKET_*`.
    pub flags: u32,
    /// That are on their way to it in `SCM_RIGHTS`.
    pub descriptors: u32,
    /// Bytes not read; `SOCKET_LISTENS`: connections not accepted.
    pub receive_queue: u64,
    /// Bytes not taken by the other side; `SOCKET_LISTENS`: how many connections may wait.
    pub send_queue: u64,
    /// Of the other end of a Unix socket; 0: none.
    pub peer_inode: u64,
    /// How long the addresses are; 0: none.
    pub local_bytes: u32,
    /// Peer bytes.
    pub peer_bytes: u32,
    /// Struct `sockaddr_*`.
    pub local: [u8; 128],
    /// Peer.
    pub peer: [u8; 128],
}
