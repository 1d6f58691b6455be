//! What the snapshot fd yields.

use super::NS_COUNT;

/// `struct ff_table`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Table {
    /// From the start of the image.
    pub offset: u64,
    /// Count.
    pub count: u32,
    /// Of one record.
    pub stride: u32,
}

/// `struct ff_image_header`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageHeader {
    /// Magic.
    pub magic: u64,
    /// Version.
    pub version: u32,
    /// Page size.
    pub page_size: u32,
    /// Snapshot id.
    pub snapshot_id: u64,
    /// `CLOCK_MONOTONIC`: all targets were still.
    pub instant_ns: u64,
    /// `CLOCK_REALTIME` of the same.
    pub instant_realtime_ns: u64,
    /// Data offset.
    pub data_offset: u64,
    /// Data pages.
    pub data_pages: u64,
    /// Struct `ff_image_process`.
    pub processes: Table,
    /// Struct `ff_image_thread`.
    pub threads: Table,
    /// Struct `ff_image_vma`.
    pub vmas: Table,
    /// Struct `ff_image_run`.
    pub runs: Table,
    /// Stride 1.
    pub blobs: Table,
    /// Random, the same as long as the module stays loaded.
    pub instance: u64,
    /// Struct `ff_image_fd`.
    pub fds: Table,
    /// Struct `ff_image_file`.
    pub files: Table,
}

/// `struct ff_blob`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Blob {
    /// From blobs.offset.
    pub offset: u32,
    /// Length.
    pub length: u32,
}

/// `struct ff_image_process`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageProcess {
    /// Thread group id in the caller's pid namespace.
    pub pid: i32,
    /// Ppid.
    pub ppid: i32,
    /// Real, in the caller's user namespace.
    pub uid: u32,
    /// Gid.
    pub gid: u32,
    /// First thread.
    pub first_thread: u32,
    /// Thread count.
    pub thread_count: u32,
    /// Processes that share an address space share these.
    pub first_vma: u32,
    /// Vma count.
    pub vma_count: u32,
    /// Comm.
    pub comm: [u8; 16],
    /// Path, not NUL-terminated.
    pub exe: Blob,
    /// `Elf64_auxv_t`\[\].
    pub auxv: Blob,
    /// Reserved, length 0.
    pub args: Blob,
    /// Start code.
    pub start_code: u64,
    /// End code.
    pub end_code: u64,
    /// Start data.
    pub start_data: u64,
    /// End data.
    pub end_data: u64,
    /// Start brk.
    pub start_brk: u64,
    /// Brk.
    pub brk: u64,
    /// Start stack.
    pub start_stack: u64,
    /// Arg start.
    pub arg_start: u64,
    /// Arg end.
    pub arg_end: u64,
    /// Env start.
    pub env_start: u64,
    /// Env end.
    pub env_end: u64,
    /// Of the process, `CLOCK_BOOTTIME`.
    pub start_time_ns: u64,
    /// Enum `ff_arm_mode`, never `ARM_AUTO`.
    pub arm_mode: u32,
    /// Enum `ff_arm_reason`.
    pub arm_reason: u32,
    /// The last snapshot before this one that had this memory, or 0: see `RUN_UNCHANGED`.
    pub parent_id: u64,
    /// Enum `ff_track`.
    pub track: u32,
    /// Reserved.
    pub reserved: u32,
    /// Process group and session, in the caller's pid namespace.
    pub pgid: i32,
    /// Sid.
    pub sid: i32,
    /// `PROCESS_*`.
    pub flags: u32,
    /// Umask.
    pub umask: u32,
    /// Exit signal.
    pub exit_signal: i32,
    /// Personality.
    pub personality: u32,
    /// Oom score adj.
    pub oom_score_adj: i32,
    /// First fd.
    pub first_fd: u32,
    /// Fd count.
    pub fd_count: u32,
    /// Inodes; 0: not known.
    pub namespaces: [u32; NS_COUNT as usize],
    /// 0.
    pub state_reserved: u32,
    /// For any of its threads.
    pub sigpending: u64,
    /// Paths, as the caller would name them.
    pub cwd: Blob,
    /// Root.
    pub root: Blob,
    /// Path in the cgroup v2 hierarchy, from the caller's root.
    pub cgroup: Blob,
    /// Struct `ff_image_credentials`, of the main thread.
    pub credentials: Blob,
    /// Struct `ff_image_limit`\[\], by `RLIMIT_*`.
    pub limits: Blob,
    /// Struct `ff_image_action`\[\].
    pub actions: Blob,
    /// Struct `ff_image_signal`\[\]: what sigpending tells of.
    pub pending: Blob,
    /// Struct `ff_image_timer`\[\].
    pub timers: Blob,
}

/// `struct ff_image_thread`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageThread {
    /// In the caller's pid namespace.
    pub pid: i32,
    /// Enum `ff_thread_state`.
    pub state: u32,
    /// Comm.
    pub comm: [u8; 16],
    /// Register sets: each is { `__u32` type (`NT_PRSTATUS`: `user_regs_struct`, `NT_PRFPREG`: `user_fpregs_struct`, `NT_X86_XSTATE`), `__u32` length, `__u8` data\[length\] padded to 8 }.
    pub regs: Blob,
    /// Fs base.
    pub fs_base: u64,
    /// Gs base.
    pub gs_base: u64,
    /// Of the thread.
    pub sigpending: u64,
    /// Sigblocked.
    pub sigblocked: u64,
    /// With `THREAD_SIGSAVED`: what is blocked again when the system call ends (sigsuspend, ppoll).
    pub sigsaved: u64,
    /// `sigaltstack()`: address.
    pub altstack: u64,
    /// Altstack bytes.
    pub altstack_bytes: u64,
    /// `SS_*`.
    pub altstack_flags: u32,
    /// `THREAD_*`.
    pub flags: u32,
    /// Address; 0: none.
    pub rseq: u64,
    /// Rseq bytes.
    pub rseq_bytes: u32,
    /// Rseq signature.
    pub rseq_signature: u32,
    /// Address; 0: none.
    pub robust_list: u64,
    /// Robust bytes.
    pub robust_bytes: u64,
    /// Clear child tid.
    pub clear_child_tid: u64,
    /// Of `set_thread_area()`, as in the GDT.
    pub tls: [u64; 3],
    /// `SCHED_*`.
    pub policy: u32,
    /// Nice.
    pub nice: i32,
    /// Rt priority.
    pub rt_priority: u32,
    /// `SECCOMP_MODE_*`.
    pub seccomp: u32,
    /// `SCHED_DEADLINE`, nanoseconds.
    pub dl_runtime: u64,
    /// Dl deadline.
    pub dl_deadline: u64,
    /// Dl period.
    pub dl_period: u64,
    /// `PR_SET_PDEATHSIG`.
    pub death_signal: u32,
    /// 0.
    pub state_reserved: u32,
    /// Bit N of byte N / 8: it may run on processor N.
    pub cpus: Blob,
    /// Struct `ff_image_signal`\[\]: what sigpending tells of.
    pub pending: Blob,
    /// Struct `ff_image_credentials`; length 0: as the process's.
    pub credentials: Blob,
}

/// `struct ff_image_vma`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageVma {
    /// Start.
    pub start: u64,
    /// End.
    pub end: u64,
    /// In bytes.
    pub file_offset: u64,
    /// Inode.
    pub inode: u64,
    /// Dev major.
    pub dev_major: u32,
    /// Dev minor.
    pub dev_minor: u32,
    /// `FF_VMA_*`.
    pub flags: u32,
    /// First run.
    pub first_run: u32,
    /// Run count.
    pub run_count: u32,
    /// Of the mapped file, or a name such as \[vdso\].
    pub path: Blob,
    /// Reserved.
    pub reserved: u32,
}

/// `struct ff_image_run`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ImageRun {
    /// Vaddr.
    pub vaddr: u64,
    /// Index of the first data page.
    pub page: u64,
    /// Pages.
    pub pages: u32,
    /// `FF_RUN_*`.
    pub flags: u32,
}
