/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * The protocol of /dev/freezeframe.
 *
 * /dev/freezeframe (mode 0600) takes snapshots of running processes: every
 * byte of their private memory, the registers of every thread, and what the
 * kernel keeps for them (signals, timers, credentials, open files, ...), as
 * they were at one instant, while the processes go on. With them it freezes
 * filesystems, and puts dm-snapshots under them, so that memory and disk
 * belong to the same instant.
 *
 *   1. open("/dev/freezeframe", O_RDWR | O_CLOEXEC); CAP_SYS_ADMIN is needed.
 *   2. FF_IOC_GET_INFO: compare abi_version with FF_ABI_VERSION, and read the
 *      feature bits. Never guess from a kernel's or module's version.
 *   3. FF_IOC_TAKE: freezes the filesystems and the targets, arms their memory,
 *      thaws the targets, switches the devices, thaws the filesystems, and
 *      returns a snapshot fd. All of the stop happens inside this one call; no
 *      userspace code runs in it. On return nothing is frozen, whatever the
 *      result, but for a filesystem that takes longer than the deadline to
 *      freeze (FF_REASON_FS_TIMEOUT): that is thawed as soon as it has frozen.
 *   4. pread(2), read(2), lseek(2), splice(2) and sendfile(2) on the snapshot
 *      fd yield the image (freezeframe_image.h). The image does not change while
 *      the fd is open.
 *   5. mmap(2) of it, read-only and MAP_SHARED, shows the pages without a copy.
 *      FF_IOC_RELEASE lets go of pages that are not needed any more, so that
 *      nobody has to copy them before he writes; they cannot be read again.
 *      FF_IOC_LOOK tells how many pages are held, and for whom.
 *   6. close(2) of the last descriptor releases every page that is held.
 *
 * The snapshot's life is the life of the snapshot fd; the device may be closed
 * before. The module cannot be unloaded while either is open.
 *
 * Death at any point is safe. A caller that is killed inside FF_IOC_TAKE makes
 * the call unwind: the targets are thawed and the references dropped. Should
 * the caller hang instead, each parked thread leaves by itself when the
 * deadline passes, and the snapshot fails with ETIMEDOUT. Filesystems and
 * devices are frozen, switched and thawed by a thread of the module, which
 * undoes what it did when the caller dies, or says nothing for a deadline.
 *
 * Open files: the stop takes a reference to each, and FF_IOC_TAKE drops them in
 * the phase `finalize`, before all else that it does there. What a target
 * closes in between is closed for good only then: a reader of a pipe sees its
 * end, a port is free, a lock is gone that much later. An open snapshot holds
 * none but those of mapped files.
 *
 * Errors: every call returns -1 and errno on failure. FF_IOC_TAKE in addition
 * fills `failure` (reason, target, thread, phase), which is what a message to
 * a person should be made of. All reserved fields must be 0, unknown flags are
 * refused with EINVAL.
 *
 * Conventions: sizes are in bytes unless the name says pages; times are in
 * nanoseconds of CLOCK_MONOTONIC; all integers are in the host's byte order.
 */
#ifndef FREEZEFRAME_H
#define FREEZEFRAME_H

#ifdef __KERNEL__
#include <linux/types.h>
#include <linux/ioctl.h>
#else
#include <linux/types.h>
#include <sys/ioctl.h>
#endif

#define FF_ABI_VERSION 5u
#define FF_DEVICE_PATH "/dev/freezeframe"

/* The most targets that one FF_IOC_TAKE accepts. */
#define FF_MAX_TARGETS 1024u
/* The most filesystems, and the most devices to switch. */
#define FF_MAX_FILESYSTEMS 256u
#define FF_MAX_SWITCHES 256u
/* Size of ff_switch.params. */
#define FF_PARAMS_BYTES 128u
/* Bounds of ff_take.deadline_ms: the longest that a target may stand still, and that a filesystem may take to freeze.
 */
#define FF_DEADLINE_MIN_MS 1u
#define FF_DEADLINE_MAX_MS 60000u
#define FF_DEADLINE_DEFAULT_MS 5000u

/* ---- phases ------------------------------------------------------------ */

/* The timed steps of a snapshot, in the order in which they begin. */
enum ff_phase {
	FF_PHASE_PREPARE = 0,	   /* resolve, count, allocate, pre-fault; nobody stands still */
	FF_PHASE_FREEZE_FS = 1,	   /* freeze the filesystems, if any; the write window begins */
	FF_PHASE_FREEZE_TASKS = 2, /* every target thread parked, or asleep in the kernel; the window begins */
	FF_PHASE_ARM = 3,	   /* make the memory copy-on-write, copy registers, take hold of the other state */
	FF_PHASE_THAW_TASKS = 4,   /* let the threads go; the window ends */
	FF_PHASE_SWITCH_FS = 5,	   /* slide the dm-snapshots under, if any */
	FF_PHASE_THAW_FS = 6,	   /* thaw the filesystems; the write window ends */
	FF_PHASE_FINALIZE = 7,	   /* resolve the state and paths, lay out the image; nobody stands still */
	FF_PHASE_DRAIN = 8,	   /* the snapshot fd is open (tracepoint only) */
	FF_PHASE_DONE = 9,	   /* release every reference (tracepoint only) */
};
#define FF_PHASE_COUNT 10u

/* ---- FF_IOC_GET_INFO --------------------------------------------------- */

#define FF_FEATURE_ARM_EAGER (1ull << 0)   /* page tables are walked in the stop */
#define FF_FEATURE_FREEZE_SOFT (1ull << 1) /* sleepers in the kernel are left asleep */
#define FF_FEATURE_SHARED_COPY (1ull << 2) /* shared memory of no disk's file is in the image */
#define FF_FEATURE_ARM_LAZY (1ull << 3)	   /* the stop only write-protects; the pages are held afterwards */
#define FF_FEATURE_FREEZE_IPI (1ull << 4)  /* threads that wait for a processor need not run to be still */
#define FF_FEATURE_FREEZE_SIGNAL (1ull << 5)
#define FF_FEATURE_ARM_PUD (1ull << 6)	   /* the stop write-protects whole gigabytes */
#define FF_FEATURE_SHARED_LAZY (1ull << 7) /* shared memory is copied after the stop, before it changes */
#define FF_FEATURE_FILESYSTEMS (1ull << 8) /* filesystems are frozen, and devices switched, on request */
/* While filesystems freeze, page faults that would write to them wait without the locks that the stop needs; else a
 * target that maps files of theirs may make a take fail (FF_REASON_LOCK_TIMEOUT). */
#define FF_FEATURE_FAULT_GATE (1ull << 9)
#define FF_FEATURE_READ_ONLY (1ull << 10) /* filesystems that have no freezing are made read-only (FF_FS_READ_ONLY) */
#define FF_FEATURE_TRACK (1ull << 11)	  /* the image says which pages are unchanged (FF_RUN_UNCHANGED) */
#define FF_FEATURE_STATE (1ull << 12)	  /* signals, timers, credentials, descriptors, ... are in the image */
#define FF_FEATURE_TEST (1ull << 63)	  /* built with fault injection; never in production */

struct ff_info {
	__u32 abi_version;	 /* out: FF_ABI_VERSION of the module */
	__u32 phase_count;	 /* out: FF_PHASE_COUNT of the module */
	__u64 features;		 /* out: FF_FEATURE_* */
	__u32 max_targets;	 /* out: FF_MAX_TARGETS of the module */
	__u32 open_snapshots;	 /* out: snapshot fds open now */
	__u8 module_version[32]; /* out: NUL-terminated */
};

/* ---- FF_IOC_TAKE ------------------------------------------------------- */

enum ff_target_kind {
	FF_TARGET_PID = 0,   /* id is a process id in the caller's pid namespace */
	FF_TARGET_PIDFD = 1, /* id is a pidfd of the caller */
};

struct ff_target {
	__u32 kind; /* in: enum ff_target_kind */
	__s32 id;   /* in */
};

/* Both 0: it did not happen. */
struct ff_stamp {
	__u64 begin_ns;
	__u64 end_ns;
};

/*
 * The filesystem has no freezing of its own (tmpfs, ramfs, overlay, FUSE) and is made read-only for as long as the
 * others are frozen: write() by a descriptor of any process fails with EBADF, a new shared mapping that can be written
 * through with EACCES, opening a file for writing with EROFS; what creates, renames or removes files waits, and so does
 * a write() that came before. Stores into mappings that were there before go on. All that is undone at the thaw,
 * exactly.
 */
#define FF_FS_READ_ONLY (1u << 0)
/*
 * It may freeze at the same time as the filesystem before it, and does where both have a disk of their own: neither
 * rests on the other. Those without this flag wait until all before them are frozen.
 */
#define FF_FS_TOGETHER (1u << 1)

/*
 * A filesystem to freeze. They freeze in the order given and thaw in reverse; one that lies on a file of another comes
 * before it.
 */
struct ff_fs {
	__s32 fd;	    /* in: any descriptor of a file on it; O_PATH will do */
	__u32 flags;	    /* in: FF_FS_* */
	__u64 sync_pages;   /* out: 4 KiB pages written back in `sync` */
	__u64 freeze_pages; /* out: 4 KiB pages written back while it froze, which is what the write window waits for */
	struct ff_stamp sync;	/* out: in prepare, while writers go on */
	struct ff_stamp freeze; /* out */
	struct ff_stamp thaw;	/* out */
	/* All 0 without FF_FS_READ_ONLY. */
	__u32 downgraded; /* out: open files, each once, that could be written to through descriptors, and could not
			     then */
	__u32 unseen;	/* out: those that no descriptor showed (only mapped, the kernel's own): their write() waited */
	__u32 mappings; /* out: shared mappings that could be written through, and still could: such stores go on */
	__u32 reserved; /* in: 0 */
};

/*
 * A device of the device mapper that gets a table of the one target `snapshot` while its filesystem is frozen. The
 * table is loaded in prepare, and cleared again if the take fails before the switch.
 */
struct ff_switch {
	__u64 dev;		      /* in: its number, as st_rdev has it */
	__u64 sectors;		      /* in: its size, in sectors of 512 bytes */
	__u32 fs;		      /* in: index of its filesystem */
	__u32 switched;		      /* out: 1 if it has the new table, whatever the result of the take */
	__u8 params[FF_PARAMS_BYTES]; /* in: of the target, NUL-terminated */
	struct ff_stamp load;	      /* out: in prepare */
	struct ff_stamp suspend;      /* out */
	struct ff_stamp swap;	      /* out: the swap and the resume */
};

/* How memory is armed. */
enum ff_arm_mode {
	FF_ARM_AUTO = 0,  /* in: LAZY or PUD, by the memory of all targets */
	FF_ARM_EAGER = 1, /* the stop takes a reference to every page */
	FF_ARM_LAZY = 2,  /* the stop write-protects; references are taken afterwards, before the first change */
	FF_ARM_PUD = 3,	  /* the stop write-protects whole gigabytes; each becomes LAZY when it is first changed */
};

/* When a thread counts as still. None of its user code runs in the stop, whatever the mode. */
enum ff_freeze_mode {
	FF_FREEZE_AUTO = 0, /* in: IPI */
	FF_FREEZE_SOFT = 1, /* it is parked, or sleeps in the kernel */
	FF_FREEZE_IPI = 2,  /* as SOFT, or it waits for a processor on its way back from an interrupt */
	/*
	 * It is parked: system calls that can be interrupted are, and end with EINTR or start over. For those who want
	 * the registers of a system call's edge; the targets may see EINTR.
	 */
	FF_FREEZE_SIGNAL = 3,
};

/* Start over when a thread that slept ran in the kernel during `arm`, and may have written to the memory meanwhile. */
#define FF_TAKE_STRICT (1u << 0)
/* Take it even where there is not as much memory as the targets may force to be copied (FF_REASON_NO_ROOM). */
#define FF_TAKE_FORCE (1u << 1)

/* Why an address space was armed as it was. */
enum ff_arm_reason {
	FF_ARM_ASKED = 1,   /* the caller asked for it */
	FF_ARM_DEFAULT = 2, /* FF_ARM_AUTO, and nothing speaks against LAZY */
	FF_ARM_NO_HOOK = 3, /* EAGER: this kernel's page fault handler could not be hooked */
	FF_ARM_WORKERS = 4, /* LAZY, not PUD: io_uring's workers of the process could write unseen */
	FF_ARM_LARGE = 5,   /* FF_ARM_AUTO, PUD: LAZY would stop it for longer than PUD keeps anybody afterwards */
};

/* Does an image say which pages are unchanged, and if not, why? */
enum ff_track {
	FF_TRACK_ON = 1,
	FF_TRACK_NO_KERNEL = 2, /* the kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY), or cannot be hooked */
	FF_TRACK_EAGER = 3,	/* it was armed eagerly */
	FF_TRACK_FOREIGN = 4,	/* another program uses the soft-dirty bits of the process (/proc/PID/clear_refs) */
	FF_TRACK_MERGED = 5,	/* the kernel merges pages of it (KSM), and sets no bits */
};

/* Who took the reference to a lazily armed page, or copied one of shared memory. */
enum ff_path {
	FF_PATH_STOP = 0,	/* the stop: the page was in use, or about to change */
	FF_PATH_FAULT = 1,	/* a page fault of a target */
	FF_PATH_NOTIFIER = 2,	/* a change of the mapping: munmap, mprotect, fork, reclaim, migration, ... */
	FF_PATH_BACKGROUND = 3, /* FF_IOC_TAKE itself, in the phase `finalize` */
	FF_PATH_GUP = 4,	/* somebody who writes without a page fault: ptrace, /proc/PID/mem */
	FF_PATH_FILE = 5,	/* write() to a shared file, or its truncation */
};
#define FF_PATH_COUNT 6u

/* Why a FF_IOC_TAKE failed; the errno that comes with it is in brackets. */
enum ff_reason {
	FF_REASON_NONE = 0,
	FF_REASON_BAD_ARGUMENT = 1,	 /* size, flag, reserved field, deadline, kind [EINVAL] */
	FF_REASON_NO_TARGETS = 2,	 /* target_count is 0 [EINVAL] */
	FF_REASON_TOO_MANY_TARGETS = 3,	 /* more than FF_MAX_TARGETS [E2BIG] */
	FF_REASON_BAD_POINTER = 4,	 /* targets cannot be read [EFAULT] */
	FF_REASON_NO_SUCH_PROCESS = 5,	 /* [ESRCH] */
	FF_REASON_BAD_PIDFD = 6,	 /* not a pidfd [EBADF] */
	FF_REASON_KERNEL_THREAD = 7,	 /* has no memory of its own [EINVAL] */
	FF_REASON_SELF = 8,		 /* the caller, or it shares memory with the caller [EDEADLK] */
	FF_REASON_DUPLICATE = 9,	 /* named twice [EEXIST] */
	FF_REASON_EXITING = 10,		 /* exits or is a zombie [ESRCH] */
	FF_REASON_FOREIGN_NOTIFIER = 11, /* KVM, RDMA ODP or HMM maps the memory too [EOPNOTSUPP] */
	FF_REASON_HUGETLB = 12,		 /* has hugetlb mappings; detail is the address [EOPNOTSUPP] */
	FF_REASON_NO_MEMORY = 13,	 /* [ENOMEM] */
	FF_REASON_FREEZE_TIMEOUT = 14,	 /* thread is still running at the deadline [ETIMEDOUT] */
	FF_REASON_DEADLINE = 15,	 /* the stop outlived the deadline [ETIMEDOUT] */
	FF_REASON_EXEC = 16,		 /* the target kept changing its memory by execve [EAGAIN] */
	FF_REASON_INTERRUPTED = 17,	 /* the caller was killed [EINTR] */
	FF_REASON_SWAP_IN = 18,		 /* a swapped page cannot be read; detail is the address [EIO] */
	FF_REASON_INJECTED = 19,	 /* fault injection of a test build [EIO] */
	FF_REASON_PERMISSION = 20,	 /* no CAP_SYS_ADMIN [EPERM] */
	FF_REASON_NO_FD = 21,		 /* no free descriptor [EMFILE] */
	FF_REASON_WOKEN = 22,		 /* FF_TAKE_STRICT, and a sleeper ran during every try [EAGAIN] */
	/* Every page that a target writes to while the snapshot is open is kept twice; detail bytes at most, bound
	 * there are. */
	FF_REASON_NO_ROOM = 23, /* [ENOMEM] */
	/* A page table entry changed after the stop, and the kernel did not tell before: its page may be lost; detail
	 * is the address, or that of its page table. A bug of ours, or a kernel that we do not understand. */
	FF_REASON_CHANGED = 24, /* [EIO] */
	/* Of filesystems; failure.fs says which. */
	FF_REASON_FS_BAD_FD = 25, /* not a descriptor of a file [EBADF] */
	FF_REASON_FS_KIND =
		26, /* no device beneath, or a process that serves it; or not one for FF_FS_READ_ONLY [EOPNOTSUPP] */
	FF_REASON_FS_TWICE = 27,   /* named twice [EEXIST] */
	FF_REASON_FS_FROZEN = 28,  /* somebody else has frozen it [EBUSY] */
	FF_REASON_FS_SYNC = 29,	   /* it could not be written back */
	FF_REASON_FS_FREEZE = 30,  /* it could not be frozen */
	FF_REASON_FS_TIMEOUT = 31, /* it was not frozen by the deadline [ETIMEDOUT] */
	FF_REASON_FS_THAWED = 32, /* somebody else thawed it in the stop; only where freezes do not nest: 6.1 [EBUSY] */
	/* Of devices; failure.device says which. */
	FF_REASON_DM_CONTROL = 33, /* dm_control is not /dev/mapper/control [EBADF] */
	FF_REASON_DM_LOAD = 34,	   /* the device mapper does not take the table */
	FF_REASON_DM_SUSPEND = 35, /* the device could not be suspended */
	FF_REASON_DM_SWITCH = 36,  /* the device did not get the new table */
	/* With filesystems frozen, mmap_lock of a target could not be had by the deadline [ETIMEDOUT] */
	FF_REASON_LOCK_TIMEOUT = 37,
	FF_REASON_DISK_ESCAPED = 38, /* the stop outlived the deadline, and the filesystems were thawed [ETIMEDOUT] */
	/* Between prepare and the stop the targets got more descriptors, timers or signals than there was room for,
	 * time and again; detail is the bytes that it would have taken [EAGAIN] */
	FF_REASON_STATE_ROOM = 39,
};

struct ff_failure {
	__u32 reason; /* enum ff_reason */
	__u32 phase;  /* enum ff_phase in which it failed */
	__s32 target; /* index into targets, or -1 */
	__s32 pid;    /* thread in the caller's pid namespace, or 0 */
	__s32 fs;     /* index into filesystems, or -1 */
	__s32 device; /* index into switches, or -1 */
	__u64 detail; /* as the reason says, or 0 */
	__u64 bound;  /* as the reason says, or 0 */
};

struct ff_counts {
	__u64 pages_armed;		/* 4 KiB pages of which the image holds the original by reference */
	__u64 pages_copied;		/* 4 KiB pages of which the image has a copy (in use by a device, shared) */
	__u64 pages_swapped_in;		/* pages that had to be brought in inside the stop */
	__u64 pages_prefaulted;		/* pages that `prepare` brought in */
	__u64 pages_unreadable;		/* hardware-poisoned: in the image as FF_RUN_UNREADABLE */
	__u64 huge_armed;		/* how many 2 MiB mappings are within pages_armed */
	__u64 pages_shared;		/* 4 KiB pages of shared memory, each once, however many processes map it */
	__u64 pages_shared_stop;	/* how many of them were copied inside the stop */
	__u64 finalized[FF_PATH_COUNT]; /* lazily armed pages by enum ff_path */
	__u32 processes;
	__u32 threads_parked; /* stopped at the edge to user mode */
	__u32 threads_asleep; /* asleep in the kernel with the parking work queued */
	__u32 threads_kernel; /* io_uring workers and the like, which never run user code */
	__u32 threads_woken;  /* slept in the kernel, but ran there during `arm` */
	__u32 rescans;	      /* passes needed until no thread was new */
};

struct ff_take {
	__u32 size;	       /* in: sizeof(struct ff_take) */
	__u32 flags;	       /* in: FF_TAKE_* */
	__u64 targets;	       /* in: address of struct ff_target[target_count] */
	__u32 target_count;    /* in: 1 to FF_MAX_TARGETS; 0 with filesystems: those alone */
	__u32 deadline_ms;     /* in: 0 for the default */
	__s32 fd;	       /* out: the snapshot fd (O_CLOEXEC), or -1 */
	__u32 arm;	       /* in: enum ff_arm_mode */
	__u32 freeze;	       /* in: enum ff_freeze_mode */
	__s32 dm_control;      /* in: a descriptor of /dev/mapper/control, where there are switches */
	__u64 filesystems;     /* in: address of struct ff_fs[fs_count], written back on success and failure */
	__u64 switches;	       /* in: address of struct ff_switch[switch_count], likewise */
	__u32 fs_count;	       /* in: at most FF_MAX_FILESYSTEMS */
	__u32 switch_count;    /* in: at most FF_MAX_SWITCHES */
	__u64 reserved;	       /* in: 0 */
	__u64 id;	       /* out: counts up from 1 since the module was loaded */
	__u64 image_bytes;     /* out: size of what the fd yields */
	__u64 window_ns;       /* out: freeze_tasks.begin to thaw_tasks.end */
	__u64 write_window_ns; /* out: freeze_fs.begin to thaw_fs.end; 0 without filesystems */
	__u64 stall_ns;	       /* out: the longest that a target was kept after the window, for a page to be held */
	__u64 shared_ns;       /* out: how much of the window shared memory took */
	__u64 state_ns;	       /* out: how much of the window all state but memory and registers took */
	__u64 pass_ns; /* out: how long the pass worked that holds and copies what the window left (PATH_BACKGROUND) */
	__u64 rest_ns; /* out: how long it rested in between, so that others had the processor */
	struct ff_failure failure;
	struct ff_counts counts;
	struct ff_stamp phases[FF_PHASE_COUNT]; /* out, also on failure */
};

#define FF_IOC_MAGIC 0xFA
#define FF_IOC_GET_INFO _IOR(FF_IOC_MAGIC, 0x00, struct ff_info)
#define FF_IOC_TAKE _IOWR(FF_IOC_MAGIC, 0x01, struct ff_take)

/* ---- of the snapshot fd ------------------------------------------------ */

/*
 * Lets go of data pages: they cannot be read again (ENODATA), and a target that writes to one of them need not copy it.
 * Pages that are mapped (mmap) stay, and the call fails with EBUSY when it has done the others. What was released
 * before is passed over.
 */
struct ff_release {
	__u64 page;	/* in: index of the first data page */
	__u64 pages;	/* in */
	__u64 released; /* out: how many were let go */
	__u64 sole;	/* out: how many of them nobody else had: whoever wrote to them had to copy them */
};

/* A stretch of data pages. */
struct ff_stretch {
	__u64 page;  /* in: index of the first */
	__u32 pages; /* in */
	__u32 sole;  /* out: how many are held for the image alone, since they were changed, or copied, or unmapped */
};

#define FF_MAX_STRETCHES 65536u

struct ff_look {
	__u64 stretches; /* in: address of struct ff_stretch[count], written back */
	__u32 count;	 /* in: at most FF_MAX_STRETCHES; 0: the two sums, which are 0 otherwise */
	__u32 reserved;	 /* in: 0 */
	__u64 held;	 /* out: data pages held, in all */
	__u64 sole;	 /* out: how many of them are held for the image alone: the memory that it costs */
};

#define FF_IOC_RELEASE _IOWR(FF_IOC_MAGIC, 0x10, struct ff_release)
#define FF_IOC_LOOK _IOWR(FF_IOC_MAGIC, 0x11, struct ff_look)

/* What the snapshot fd yields. */
#include "freezeframe_image.h"

/* ---- tracepoints ------------------------------------------------------- */
/*
 * Category `freezeframe`; every argument is a scalar, so that a raw tracepoint
 * program needs no type information of the module. Arguments in order:
 *
 *   freezeframe_phase       u64 snapshot, u32 phase, u32 edge, u64 ns, s64 error
 *   freezeframe_task_still  u64 snapshot, u32 pid, u32 tgid, u32 state,
 *                           u64 asked_ns, u64 still_ns
 *   freezeframe_mm_armed    u64 snapshot, u32 tgid, u64 pages, u64 copied,
 *                           u64 duration_ns
 *
 * pids are those of the initial pid namespace. edge is enum ff_edge, error a
 * negative errno at the end of a phase that failed, else 0. The events of a
 * stop are emitted after it (`ns` tells when it was), so that they do not
 * lengthen the window, except for `prepare`.
 */
enum ff_edge {
	FF_EDGE_BEGIN = 0,
	FF_EDGE_END = 1,
};

#endif /* FREEZEFRAME_H */
