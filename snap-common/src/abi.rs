//! The mirror of `kmod/freezeframe.h`, which documents the protocol. `tests/header.rs` compares the two field by field.

mod disk;
mod drain;
mod image;
mod state;

pub use self::disk::*;
pub use self::drain::*;
pub use self::image::*;
pub use self::state::*;

/// Where the module's device lies.
pub const DEVICE_PATH: &str = "/dev/freezeframe";
/// The version of the protocol that this mirror speaks.
pub const ABI_VERSION: u32 = 5;
/// Bounds of `ff_take`.`deadline_ms`: the longest that a target may stand still.
pub const MAX_TARGETS: u32 = 1024;
/// The shortest deadline.
pub const DEADLINE_MIN_MS: u32 = 1;
/// The longest that a target may stand still.
pub const DEADLINE_MAX_MS: u32 = 60_000;
/// ---- phases ------------------------------------------------------------.
pub const DEADLINE_DEFAULT_MS: u32 = 5000;
/// ---- `FF_IOC_GET_INFO` ---------------------------------------------------.
pub const PHASE_COUNT: u32 = 10;
/// Page tables are walked in the stop.
pub const FEATURE_ARM_EAGER: u64 = 1 << 0;
/// Sleepers in the kernel are left asleep.
pub const FEATURE_FREEZE_SOFT: u64 = 1 << 1;
/// Shared memory of no disk's file is in the image.
pub const FEATURE_SHARED_COPY: u64 = 1 << 2;
/// The stop only write-protects; the pages are held afterwards.
pub const FEATURE_ARM_LAZY: u64 = 1 << 3;
/// Threads that wait for a processor need not run to be still.
pub const FEATURE_FREEZE_IPI: u64 = 1 << 4;
/// System calls can be interrupted for the registers at their edge.
pub const FEATURE_FREEZE_SIGNAL: u64 = 1 << 5;
/// The stop write-protects whole gigabytes.
pub const FEATURE_ARM_PUD: u64 = 1 << 6;
/// Shared memory is copied after the stop, before it changes.
pub const FEATURE_SHARED_LAZY: u64 = 1 << 7;
/// The image says which pages are unchanged (`RUN_UNCHANGED`).
pub const FEATURE_TRACK: u64 = 1 << 11;
/// Built with fault injection; never in production.
pub const FEATURE_TEST: u64 = 1 << 63;
/// "FRFEIMG1", little-endian.
pub const IMAGE_MAGIC: u64 = 0x3147_4D49_4546_5246;
/// The version of the image's layout.
pub const IMAGE_VERSION: u32 = 2;
/// `VMA_READ`.
pub const VMA_READ: u32 = 1 << 0;
/// `VMA_WRITE`.
pub const VMA_WRITE: u32 = 1 << 1;
/// `VMA_EXEC`.
pub const VMA_EXEC: u32 = 1 << 2;
/// `MAP_SHARED`.
pub const VMA_SHARED: u32 = 1 << 3;
/// Tmpfs, memfd, `MAP_SHARED` | `MAP_ANONYMOUS`: no file on a disk behind it.
pub const VMA_SHMEM: u32 = 1 << 4;
/// `VMA_GROWSDOWN`.
pub const VMA_GROWSDOWN: u32 = 1 << 5;
/// Device memory: not in the image.
pub const VMA_DEVICE: u32 = 1 << 6;
/// Vdso, vvar: the kernel's own.
pub const VMA_SPECIAL: u32 = 1 << 7;
/// Madvise(`MADV_DONTDUMP`); in the image all the same.
pub const VMA_DONTDUMP: u32 = 1 << 8;
/// It belongs to the instant but is not in the image: say so.
pub const VMA_INTERNAL: u32 = 1 << 9;
/// No data pages: the memory was poisoned.
pub const RUN_UNREADABLE: u32 = 1 << 0;
/// A copy, not held by reference.
pub const RUN_COPIED: u32 = 1 << 1;
/// The same as in the snapshot `parent_id` of the process, at the same address.
pub const RUN_UNCHANGED: u32 = 1 << 2;
/// Id is a process id in the caller's pid namespace.
pub const TARGET_PID: u32 = 0;
/// Id is a pidfd of the caller.
pub const TARGET_PIDFD: u32 = 1;
/// `enum ff_reason`: none.
pub const REASON_NONE: u32 = 0;
/// Size, flag, reserved field, deadline, kind (EINVAL).
pub const REASON_BAD_ARGUMENT: u32 = 1;
/// `target_count` is 0 (EINVAL).
pub const REASON_NO_TARGETS: u32 = 2;
/// More than `FF_MAX_TARGETS` (E2BIG).
pub const REASON_TOO_MANY_TARGETS: u32 = 3;
/// Targets cannot be read (EFAULT).
pub const REASON_BAD_POINTER: u32 = 4;
/// (ESRCH).
pub const REASON_NO_SUCH_PROCESS: u32 = 5;
/// Not a pidfd (EBADF).
pub const REASON_BAD_PIDFD: u32 = 6;
/// Has no memory of its own (EINVAL).
pub const REASON_KERNEL_THREAD: u32 = 7;
/// The caller, or it shares memory with the caller (EDEADLK).
pub const REASON_SELF: u32 = 8;
/// Named twice (EEXIST).
pub const REASON_DUPLICATE: u32 = 9;
/// Exits or is a zombie (ESRCH).
pub const REASON_EXITING: u32 = 10;
/// KVM, RDMA ODP or HMM maps the memory too (EOPNOTSUPP).
pub const REASON_FOREIGN_NOTIFIER: u32 = 11;
/// Has hugetlb mappings; detail is the address (EOPNOTSUPP).
pub const REASON_HUGETLB: u32 = 12;
/// (ENOMEM).
pub const REASON_NO_MEMORY: u32 = 13;
/// Thread is still running at the deadline (ETIMEDOUT).
pub const REASON_FREEZE_TIMEOUT: u32 = 14;
/// The stop outlived the deadline (ETIMEDOUT).
pub const REASON_DEADLINE: u32 = 15;
/// The target kept changing its memory by execve (EAGAIN).
pub const REASON_EXEC: u32 = 16;
/// The caller was killed (EINTR).
pub const REASON_INTERRUPTED: u32 = 17;
/// A swapped page cannot be read; detail is the address (EIO).
pub const REASON_SWAP_IN: u32 = 18;
/// Fault injection of a test build (EIO).
pub const REASON_INJECTED: u32 = 19;
/// No `CAP_SYS_ADMIN` (EPERM).
pub const REASON_PERMISSION: u32 = 20;
/// No free descriptor (EMFILE).
pub const REASON_NO_FD: u32 = 21;
/// `TAKE_STRICT`, and a sleeper ran during every try (EAGAIN).
pub const REASON_WOKEN: u32 = 22;
/// Start over when a thread that slept ran in the kernel during `arm`.
pub const TAKE_STRICT: u32 = 1 << 0;
/// Not as much memory as the targets may force to be copied (ENOMEM).
pub const REASON_NO_ROOM: u32 = 23;
/// A page table entry changed after the stop, and the kernel did not tell before: its page may be lost; detail is the address (EIO).
pub const REASON_CHANGED: u32 = 24;
/// Take it even so.
pub const TAKE_FORCE: u32 = 1 << 1;
/// LAZY or PUD, by the memory of all targets together; EAGER where the kernel's functions cannot be hooked.
pub const ARM_AUTO: u32 = 0;
/// The stop takes a reference to every page.
pub const ARM_EAGER: u32 = 1;
/// The stop write-protects; references are taken afterwards, before the first change.
pub const ARM_LAZY: u32 = 2;
/// The stop write-protects whole gigabytes; each becomes `ARM_LAZY` when it is first changed.
pub const ARM_PUD: u32 = 3;
/// The caller asked for it.
pub const ARM_ASKED: u32 = 1;
/// `ARM_AUTO`, and nothing speaks against `ARM_LAZY`.
pub const ARM_DEFAULT: u32 = 2;
/// `ARM_EAGER`: this kernel's page fault handler could not be hooked.
pub const ARM_NO_HOOK: u32 = 3;
/// `ARM_LAZY`, not `ARM_PUD`: `io_uring`'s workers of the process could write unseen.
pub const ARM_WORKERS: u32 = 4;
/// `ARM_AUTO`, PUD: LAZY would stop it for longer than PUD keeps anybody afterwards.
pub const ARM_LARGE: u32 = 5;
/// As `FREEZE_IPI`.
pub const FREEZE_AUTO: u32 = 0;
/// A thread is still when it is parked, or sleeps in the kernel.
pub const FREEZE_SOFT: u32 = 1;
/// As `FREEZE_SOFT`, or when it waits for a processor on its way back from an interrupt.
pub const FREEZE_IPI: u32 = 2;
/// A thread is still when it is parked.
pub const FREEZE_SIGNAL: u32 = 3;
/// The image says which pages are unchanged.
pub const TRACK_ON: u32 = 1;
/// It does not: the kernel has no soft-dirty bits.
pub const TRACK_NO_KERNEL: u32 = 2;
/// It does not: the memory was armed eagerly.
pub const TRACK_EAGER: u32 = 3;
/// It does not: another program uses the soft-dirty bits of the process.
pub const TRACK_FOREIGN: u32 = 4;
/// It does not: the kernel merges pages of it (KSM).
pub const TRACK_MERGED: u32 = 5;
/// The stop held the page: it was in use, or about to change.
pub const PATH_STOP: u32 = 0;
/// A page fault of a target.
pub const PATH_FAULT: u32 = 1;
/// A change of the mapping.
pub const PATH_NOTIFIER: u32 = 2;
/// `FF_IOC_TAKE` itself, in the phase `finalize`.
pub const PATH_BACKGROUND: u32 = 3;
/// Somebody who writes without a page fault: ptrace, `/proc/PID/mem`.
pub const PATH_GUP: u32 = 4;
/// write() to a shared file, or its truncation.
pub const PATH_FILE: u32 = 5;
/// How many paths there are.
pub const PATH_COUNT: u32 = 6;
/// Stopped on its way to user mode.
pub const THREAD_PARKED: u32 = 1;
/// In a system call or fault; registers as it entered.
pub const THREAD_ASLEEP: u32 = 2;
/// Runs no user code; no registers.
pub const THREAD_KERNEL: u32 = 3;
/// `enum ff_edge`: begin.
pub const EDGE_BEGIN: u32 = 0;
/// `enum ff_edge`: end.
pub const EDGE_END: u32 = 1;

/// `struct ff_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Info {
    /// Out: `FF_ABI_VERSION` of the module.
    pub abi_version: u32,
    /// Out: `FF_PHASE_COUNT` of the module.
    pub phase_count: u32,
    /// Out: `FF_FEATURE_*`.
    pub features: u64,
    /// Out: `FF_MAX_TARGETS` of the module.
    pub max_targets: u32,
    /// Out: snapshot fds open now.
    pub open_snapshots: u32,
    /// Out: NUL-terminated.
    pub module_version: [u8; 32],
}

/// `struct ff_target`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Target {
    /// In: enum `ff_target_kind`.
    pub kind: u32,
    /// In.
    pub id: i32,
}

/// `struct ff_failure`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Failure {
    /// Enum `ff_reason`.
    pub reason: u32,
    /// Enum `ff_phase` in which it failed.
    pub phase: u32,
    /// Index into targets, or -1.
    pub target: i32,
    /// Thread in the caller's pid namespace, or 0.
    pub pid: i32,
    /// Index into filesystems, or -1.
    pub fs: i32,
    /// Index into switches, or -1.
    pub device: i32,
    /// As the reason says, or 0.
    pub detail: u64,
    /// As the reason says, or 0.
    pub bound: u64,
}

/// `struct ff_stamp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Stamp {
    /// Begin ns.
    pub begin_ns: u64,
    /// End ns.
    pub end_ns: u64,
}

/// `struct ff_counts`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counts {
    /// 4 KiB pages of which the image holds the original by reference.
    pub pages_armed: u64,
    /// 4 KiB pages of which the image has a copy (in use by a device, shared).
    pub pages_copied: u64,
    /// Pages that had to be brought in inside the stop.
    pub pages_swapped_in: u64,
    /// Pages that `prepare` brought in.
    pub pages_prefaulted: u64,
    /// Hardware-poisoned: in the image as `FF_RUN_UNREADABLE`.
    pub pages_unreadable: u64,
    /// How many 2 MiB mappings are within `pages_armed`.
    pub huge_armed: u64,
    /// 4 KiB pages of shared memory, each once, however many processes map it.
    pub pages_shared: u64,
    /// How many of them were copied inside the stop.
    pub pages_shared_stop: u64,
    /// Lazily armed pages by enum `ff_path`.
    pub finalized: [u64; PATH_COUNT as usize],
    /// Processes.
    pub processes: u32,
    /// Stopped at the edge to user mode.
    pub threads_parked: u32,
    /// Asleep in the kernel with the parking work queued.
    pub threads_asleep: u32,
    /// `io_uring` workers and the like, which never run user code.
    pub threads_kernel: u32,
    /// Slept in the kernel, but ran there during `arm`.
    pub threads_woken: u32,
    /// Passes needed until no thread was new.
    pub rescans: u32,
}

/// `struct ff_take`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Take {
    /// In: sizeof(struct `ff_take`).
    pub size: u32,
    /// In: `FF_TAKE_*`.
    pub flags: u32,
    /// In: address of struct `ff_target`\[`target_count`\].
    pub targets: u64,
    /// In: 1 to `FF_MAX_TARGETS`; 0 with filesystems: those alone.
    pub target_count: u32,
    /// In: 0 for the default.
    pub deadline_ms: u32,
    /// Out: the snapshot fd (`O_CLOEXEC`), or -1.
    pub fd: i32,
    /// In: enum `ff_arm_mode`.
    pub arm: u32,
    /// In: enum `ff_freeze_mode`.
    pub freeze: u32,
    /// In: a descriptor of `/dev/mapper/control`, where there are switches.
    pub dm_control: i32,
    /// In: address of struct `ff_fs`\[`fs_count`\], written back on success and failure.
    pub filesystems: u64,
    /// In: address of struct `ff_switch`\[`switch_count`\], likewise.
    pub switches: u64,
    /// In: at most `FF_MAX_FILESYSTEMS`.
    pub fs_count: u32,
    /// In: at most `FF_MAX_SWITCHES`.
    pub switch_count: u32,
    /// In: 0.
    pub reserved: u64,
    /// Out: counts up from 1 since the module was loaded.
    pub id: u64,
    /// Out: size of what the fd yields.
    pub image_bytes: u64,
    /// Out: `freeze_tasks`.begin to `thaw_tasks`.end.
    pub window_ns: u64,
    /// Out: `freeze_fs`.begin to `thaw_fs`.end; 0 without filesystems.
    pub write_window_ns: u64,
    /// Out: the longest that a target was kept after the window, for a page to be held.
    pub stall_ns: u64,
    /// Out: how much of the window shared memory took.
    pub shared_ns: u64,
    /// Out: how much of the window all state but memory and registers took.
    pub state_ns: u64,
    /// Out: how long the pass worked that holds and copies what the window left (`PATH_BACKGROUND`).
    pub pass_ns: u64,
    /// Out: how long it rested in between, so that others had the processor.
    pub rest_ns: u64,
    /// Failure.
    pub failure: Failure,
    /// Counts.
    pub counts: Counts,
    /// Out, also on failure.
    pub phases: [Stamp; PHASE_COUNT as usize],
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "an ioctl's argument is smaller than 16 KiB"
)]
const fn ioc(direction: u32, number: u32, size: usize) -> u64 {
    ((direction << 30) | ((size as u32) << 16) | (0xFA << 8) | number) as u64
}
/// `FF_IOC_GET_INFO`.
pub const IOC_GET_INFO: u64 = ioc(2, 0, size_of::<Info>());
/// `FF_IOC_TAKE`.
pub const IOC_TAKE: u64 = ioc(3, 1, size_of::<Take>());
