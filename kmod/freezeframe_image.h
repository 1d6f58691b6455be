/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/* What the snapshot fd of /dev/freezeframe yields; freezeframe.h is the protocol around it. */
#ifndef FREEZEFRAME_IMAGE_H
#define FREEZEFRAME_IMAGE_H

#include <linux/types.h>

/* ---- the image: what the snapshot fd yields ---------------------------- */
/*
 * offset 0              struct ff_image_header
 * table.offset          tables of fixed-size records, each described by a
 *                       struct ff_table; new fields are added at a record's
 *                       end, so walk by stride, never by sizeof
 * blobs.offset          bytes that records point to by offset and length
 * data_offset           data_pages pages of 4096 bytes
 *
 * A run is a stretch of virtual addresses; run.page is the index of its first
 * data page. Pages that several VMAs or processes share may stand there once,
 * with a run for each. Addresses in a VMA that no run covers were never touched:
 * they read as zeros (anonymous memory) or as the file (file mappings).
 */

#define FF_IMAGE_MAGIC 0x31474D4945465246ull /* "FRFEIMG1", little-endian */
#define FF_IMAGE_VERSION 2u

struct ff_table {
	__u64 offset; /* from the start of the image */
	__u32 count;
	__u32 stride; /* of one record */
};

struct ff_image_header {
	__u64 magic;
	__u32 version;
	__u32 page_size;
	__u64 snapshot_id;
	__u64 instant_ns;	   /* CLOCK_MONOTONIC: all targets were still */
	__u64 instant_realtime_ns; /* CLOCK_REALTIME of the same */
	__u64 data_offset;
	__u64 data_pages;
	struct ff_table processes; /* struct ff_image_process */
	struct ff_table threads;   /* struct ff_image_thread */
	struct ff_table vmas;	   /* struct ff_image_vma */
	struct ff_table runs;	   /* struct ff_image_run */
	struct ff_table blobs;	   /* stride 1 */
	__u64 instance;		   /* random, the same as long as the module stays loaded: snapshot ids of two images
				      can be compared where it is the same */
	struct ff_table fds;	   /* struct ff_image_fd */
	struct ff_table files;	   /* struct ff_image_file */
};

/* A slice of the blobs; length 0: none. */
struct ff_blob {
	__u32 offset; /* from blobs.offset */
	__u32 length;
};

/* ---- the image: what processes and threads have besides memory and registers ---- */
/*
 * All of it is of the instant, but for what a flag named *_LATE says of itself. What is of no process of the image is
 * not in it, and neither is what flags say: see FF_PROCESS_*, FF_THREAD_*, FF_NOTE_*, FF_SOCKET_*.
 */

/* Ids are those of the caller's user namespace. A blob of this, and group_count group ids (__u32) behind it. */
struct ff_image_credentials {
	__u32 uid[4]; /* real, effective, saved, of filesystems */
	__u32 gid[4];
	__u64 inheritable; /* capabilities: bit N is capability N */
	__u64 permitted;
	__u64 effective;
	__u64 bounding;
	__u64 ambient;
	__u32 securebits;
	__u32 group_count;
};

/* A limit without bounds is all ones. */
struct ff_image_limit {
	__u64 soft;
	__u64 hard;
};

/* What a signal does, where that is not its default. */
struct ff_image_action {
	__u32 signal;
	__u32 reserved;
	__u64 handler; /* 1: ignored */
	__u64 flags;   /* SA_* */
	__u64 restorer;
	__u64 mask;
};

#define FF_SIGNAL_INFO (1u << 0) /* info is valid; else the kernel kept the number alone */

/* A signal that was sent and not yet taken, in the order of the queue; those without info come last. */
struct ff_image_signal {
	__u32 signal;
	__u32 flags;   /* FF_SIGNAL_* */
	__u8 info[48]; /* siginfo_t up to where its padding begins */
};

enum ff_timer_kind {
	FF_TIMER_REAL = 0, /* setitimer(ITIMER_REAL), alarm() */
	FF_TIMER_VIRTUAL = 1,
	FF_TIMER_PROF = 2,
	FF_TIMER_POSIX = 3, /* timer_create() */
};

/* value_ns is not known: the timer runs by a clock that is not read in the stop (processor time) */
#define FF_TIMER_NO_VALUE (1u << 0)

/* Interval timers are there when they are armed, POSIX timers always. */
struct ff_image_timer {
	__u32 kind;   /* enum ff_timer_kind */
	__u32 flags;  /* FF_TIMER_* */
	__s32 id;     /* of a POSIX timer */
	__s32 clock;  /* as in <time.h>; for setitimer() that which it stands for, processor time for the latter two */
	__s32 notify; /* SIGEV_* of a POSIX timer */
	__s32 signal;
	__s32 thread; /* FF_TIMER_POSIX with SIGEV_THREAD_ID, else 0 */
	__u32 overruns;
	__u64 sigev_value;
	__u64 value_ns; /* until it fires; 0: it is not armed */
	__u64 interval_ns;
};

/* Index into ff_image_process.namespaces, by the names of /proc/PID/ns. */
enum ff_namespace {
	FF_NS_CGROUP = 0,
	FF_NS_IPC = 1,
	FF_NS_MNT = 2,
	FF_NS_NET = 3,
	FF_NS_PID = 4,
	FF_NS_PID_FOR_CHILDREN = 5,
	FF_NS_TIME = 6,
	FF_NS_TIME_FOR_CHILDREN = 7,
	FF_NS_USER = 8,
	FF_NS_UTS = 9,
};
#define FF_NS_COUNT 10u

#define FF_PROCESS_AIO (1u << 0)      /* has contexts of io_setup(): what is submitted there is not in the image */
#define FF_PROCESS_KEYRINGS (1u << 1) /* has keyrings of its own: they are not in the image */
/* The process was past its end of files, signals or the like: what is missing is 0 or empty. */
#define FF_PROCESS_PARTIAL (1u << 2)
#define FF_PROCESS_SUBREAPER (1u << 3) /* PR_SET_CHILD_SUBREAPER */
#define FF_PROCESS_32BIT \
	(1u << 4) /* words of its auxiliary vector have 32 bits; registers are those of 64 bits all the same */

struct ff_image_process {
	__s32 pid; /* thread group id in the caller's pid namespace */
	__s32 ppid;
	__u32 uid; /* real, in the caller's user namespace */
	__u32 gid;
	__u32 first_thread;
	__u32 thread_count;
	__u32 first_vma; /* processes that share an address space share these */
	__u32 vma_count;
	__u8 comm[16];
	struct ff_blob exe;  /* path, not NUL-terminated */
	struct ff_blob auxv; /* Elf64_auxv_t[] */
	struct ff_blob args; /* reserved, length 0 */
	__u64 start_code;
	__u64 end_code;
	__u64 start_data;
	__u64 end_data;
	__u64 start_brk;
	__u64 brk;
	__u64 start_stack;
	__u64 arg_start;
	__u64 arg_end;
	__u64 env_start;
	__u64 env_end;
	__u64 start_time_ns; /* of the process, CLOCK_BOOTTIME */
	__u32 arm_mode;	     /* enum ff_arm_mode, never FF_ARM_AUTO */
	__u32 arm_reason;    /* enum ff_arm_reason */
	__u64 parent_id;     /* the last snapshot before this one that had this memory, or 0: see FF_RUN_UNCHANGED */
	__u32 track;	     /* enum ff_track */
	__u32 reserved;
	__s32 pgid; /* process group and session, in the caller's pid namespace */
	__s32 sid;
	__u32 flags; /* FF_PROCESS_* */
	__u32 umask;
	__s32 exit_signal;
	__u32 personality;
	__s32 oom_score_adj;
	__u32 first_fd;
	__u32 fd_count;
	__u32 namespaces[FF_NS_COUNT]; /* inodes; 0: not known */
	__u32 state_reserved;	       /* 0 */
	__u64 sigpending;	       /* for any of its threads */
	struct ff_blob cwd;	       /* paths, as the caller would name them */
	struct ff_blob root;
	struct ff_blob cgroup;	    /* path in the cgroup v2 hierarchy, from the caller's root */
	struct ff_blob credentials; /* struct ff_image_credentials, of the main thread */
	struct ff_blob limits;	    /* struct ff_image_limit[], by RLIMIT_* */
	struct ff_blob actions;	    /* struct ff_image_action[] */
	struct ff_blob pending;	    /* struct ff_image_signal[]: what sigpending tells of */
	struct ff_blob timers;	    /* struct ff_image_timer[] */
};

enum ff_thread_state {
	FF_THREAD_PARKED = 1, /* stopped on its way to user mode */
	FF_THREAD_ASLEEP = 2, /* in a system call or fault; registers as it entered */
	FF_THREAD_KERNEL = 3, /* runs no user code; no registers */
};

struct ff_image_thread {
	__s32 pid;   /* in the caller's pid namespace */
	__u32 state; /* enum ff_thread_state */
	__u8 comm[16];
	/*
	 * Register sets: each is { __u32 type (NT_PRSTATUS: user_regs_struct,
	 * NT_PRFPREG: user_fpregs_struct, NT_X86_XSTATE), __u32 length,
	 * __u8 data[length] padded to 8 }.
	 */
	struct ff_blob regs;
	__u64 fs_base;
	__u64 gs_base;
	__u64 sigpending; /* of the thread */
	__u64 sigblocked;
	__u64 sigsaved; /* with FF_THREAD_SIGSAVED: what is blocked again when the system call ends (sigsuspend, ppoll)
			 */
	__u64 altstack; /* sigaltstack() */
	__u64 altstack_bytes;
	__u32 altstack_flags; /* SS_* */
	__u32 flags;	      /* FF_THREAD_* */
	__u64 rseq;	      /* address; 0: none */
	__u32 rseq_bytes;
	__u32 rseq_signature;
	__u64 robust_list; /* address; 0: none */
	__u64 robust_bytes;
	__u64 clear_child_tid;
	__u64 tls[3]; /* of set_thread_area(), as in the GDT */
	__u32 policy; /* SCHED_* */
	__s32 nice;
	__u32 rt_priority;
	__u32 seccomp;	  /* SECCOMP_MODE_* */
	__u64 dl_runtime; /* SCHED_DEADLINE, nanoseconds */
	__u64 dl_deadline;
	__u64 dl_period;
	__u32 death_signal;	    /* PR_SET_PDEATHSIG */
	__u32 state_reserved;	    /* 0 */
	struct ff_blob cpus;	    /* bit N of byte N / 8: it may run on processor N */
	struct ff_blob pending;	    /* struct ff_image_signal[]: what sigpending tells of */
	struct ff_blob credentials; /* struct ff_image_credentials; length 0: as the process's */
};

#define FF_FD_CLOEXEC (1u << 0)

/* A descriptor; those of a process stand together, by number. */
struct ff_image_fd {
	__s32 fd;
	__u32 flags; /* FF_FD_* */
	__u32 file;  /* index into files */
	__u32 reserved;
};

enum ff_file_kind {
	FF_FILE_REGULAR = 1,
	FF_FILE_FOLDER = 2,
	FF_FILE_SYMLINK = 3, /* opened with O_PATH */
	FF_FILE_CHARACTER = 4,
	FF_FILE_BLOCK = 5,
	FF_FILE_PIPE = 6,
	FF_FILE_FIFO = 7,
	FF_FILE_SOCKET = 8,
	FF_FILE_EPOLL = 9,
	FF_FILE_EVENTFD = 10,
	FF_FILE_TIMERFD = 11,
	FF_FILE_SIGNALFD = 12,
	FF_FILE_INOTIFY = 13,
	FF_FILE_MEMFD = 14,
	FF_FILE_OTHER = 15, /* path has the kernel's name for it, as anon_inode:[io_uring] */
};

/* `text` was read after the instant, and is not what it was before it */
#define FF_NOTE_TEXT_LATE (1u << 0)
/* `text` is not all that there is */
#define FF_NOTE_TEXT_CUT (1u << 1)
/* What is in the pipe is not in the image: somebody was about to write or read */
#define FF_NOTE_PIPE_BUSY (1u << 2)
/* ... it is notifications of the kernel, or pages that cannot be held */
#define FF_NOTE_PIPE_ODD (1u << 3)
/* ... all pipes together hold more than FF_PIPE_BYTES */
#define FF_NOTE_PIPE_FULL (1u << 4)
/* What is in the pipe was not copied into it (splice, vmsplice): bytes may have changed since, where they come from */
#define FF_NOTE_PIPE_LENT (1u << 5)
/* On tmpfs: what is in the file is in the image only where it is mapped */
#define FF_NOTE_IN_MEMORY (1u << 6)
#define FF_NOTE_DELETED (1u << 7) /* no name leads to it any more */

/* The image has as many bytes of what is in pipes at most. */
#define FF_PIPE_BYTES (8u << 20)

/* An open file: what open(2), socket(2), pipe(2) made, and dup(2) and fork(2) share. Each is there once. */
struct ff_image_file {
	__u64 id;	/* from 1 */
	__u32 kind;	/* enum ff_file_kind */
	__u32 notes;	/* FF_NOTE_* */
	__u32 flags;	/* O_* */
	__u32 mode;	/* S_IF* and permissions */
	__u64 position; /* in bytes */
	__u64 size;	/* of the file in bytes */
	__u64 inode;
	__u32 dev_major; /* where the inode is */
	__u32 dev_minor;
	__u32 rdev_major; /* of a device */
	__u32 rdev_minor;
	__u64 capacity;	       /* of a pipe, in bytes */
	struct ff_blob path;   /* as the caller would name it */
	struct ff_blob locks;  /* struct ff_image_lock[] */
	struct ff_blob text;   /* what /proc/PID/fdinfo says of its kind */
	struct ff_blob pipe;   /* the bytes in it */
	struct ff_blob socket; /* struct ff_image_socket */
};

enum ff_lock_kind {
	FF_LOCK_POSIX = 1,
	FF_LOCK_OFD = 2,
	FF_LOCK_FLOCK = 3,
	FF_LOCK_LEASE = 4,
};

struct ff_image_lock {
	__u32 kind;   /* enum ff_lock_kind */
	__u32 write;  /* 1: exclusive; 0: shared */
	__s32 holder; /* FF_LOCK_POSIX: index of the process; else -1: whoever has the open file */
	__u32 reserved;
	__u64 start;
	__u64 end; /* last byte; all ones: however long the file grows */
};

#define FF_SOCKET_LISTENS (1u << 0)
/* local and peer were read after the instant */
#define FF_SOCKET_LATE (1u << 1)
/* receive_queue and send_queue are what the kernel accounts for them, not bytes of the peers' alone */
#define FF_SOCKET_ROUGH (1u << 2)

/* What is in the queues of a socket is not in the image. */
struct ff_image_socket {
	__u32 family; /* AF_* */
	__u32 kind;   /* SOCK_* */
	__u32 protocol;
	__u32 state;	     /* TCP_*, as <linux/tcp.h> numbers them (unix(7) and others use some of them, too) */
	__u32 flags;	     /* FF_SOCKET_* */
	__u32 descriptors;   /* that are on their way to it in SCM_RIGHTS */
	__u64 receive_queue; /* bytes not read; FF_SOCKET_LISTENS: connections not accepted */
	__u64 send_queue;    /* bytes not taken by the other side; FF_SOCKET_LISTENS: how many connections may wait */
	__u64 peer_inode;    /* of the other end of a Unix socket; 0: none */
	__u32 local_bytes;   /* how long the addresses are; 0: none */
	__u32 peer_bytes;
	__u8 local[128]; /* struct sockaddr_* */
	__u8 peer[128];
};

#define FF_THREAD_NO_NEW_PRIVS (1u << 0)
#define FF_THREAD_SIGSAVED (1u << 1)
#define FF_THREAD_TRACED (1u << 2) /* by ptrace(2) */
/* It has descriptors, or folders and umask, other than its process's: they are not in the image. */
#define FF_THREAD_OWN_FILES (1u << 3)
#define FF_THREAD_OWN_FS (1u << 4)
#define FF_THREAD_IO_URING (1u << 5) /* it has used io_uring: what is submitted there is not in the image */
#define FF_THREAD_SEM_UNDO (1u << 6) /* has SEM_UNDO adjustments: they are not in the image */
#define FF_THREAD_FOREIGN (1u << 7)  /* of another process, which has the memory of this one */

#define FF_VMA_READ (1u << 0)
#define FF_VMA_WRITE (1u << 1)
#define FF_VMA_EXEC (1u << 2)
#define FF_VMA_SHARED (1u << 3) /* MAP_SHARED */
#define FF_VMA_SHMEM (1u << 4)	/* tmpfs, memfd, MAP_SHARED | MAP_ANONYMOUS: no file on a disk behind it */
#define FF_VMA_GROWSDOWN (1u << 5)
#define FF_VMA_DEVICE (1u << 6)	  /* device memory: not in the image */
#define FF_VMA_SPECIAL (1u << 7)  /* vdso, vvar: the kernel's own */
#define FF_VMA_DONTDUMP (1u << 8) /* madvise(MADV_DONTDUMP); in the image all the same */
#define FF_VMA_INTERNAL (1u << 9) /* of a file of the kernel's own (secretmem, AIO rings): not in the image */

struct ff_image_vma {
	__u64 start;
	__u64 end;
	__u64 file_offset; /* in bytes */
	__u64 inode;
	__u32 dev_major;
	__u32 dev_minor;
	__u32 flags; /* FF_VMA_* */
	__u32 first_run;
	__u32 run_count;
	struct ff_blob path; /* of the mapped file, or a name such as [vdso] */
	__u32 reserved;
};

#define FF_RUN_UNREADABLE (1u << 0) /* no data pages: the memory was poisoned */
#define FF_RUN_COPIED (1u << 1)	    /* a copy, not held by reference */
#define FF_RUN_UNCHANGED (1u << 2)  /* the same as in the snapshot `parent_id` of the process, at the same address */

struct ff_image_run {
	__u64 vaddr;
	__u64 page; /* index of the first data page */
	__u32 pages;
	__u32 flags; /* FF_RUN_* */
};

#endif /* FREEZEFRAME_IMAGE_H */
