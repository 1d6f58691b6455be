//! What the snapshot fd yields.

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
