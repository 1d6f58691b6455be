/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The objects that one snapshot is made of. */
#ifndef FF_SNAPSHOT_H
#define FF_SNAPSHOT_H

#include <linux/kref.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/sched.h>

#include "freezeframe.h"
#include "freezer.h"
#include "pages.h"
#include "state.h"

/* What the image will say of one VMA, noted ahead and checked in the stop; the path is resolved after it. */
struct ff_vma {
	struct ff_image_vma image;
	struct file *file; /* reference, or NULL */
	const char *name;  /* of a special mapping, static; or NULL */
	/* as it was noted, to see whether it changed since */
	unsigned long vm_flags, vm_pgoff;
	const struct vm_operations_struct *vm_ops;
	bool private;		  /* may have private pages; of a lazily armed space they come with ff_lazy_collect() */
	struct ff_shared *shared; /* the file, if it is shared memory */
};

/* One address space; several processes may share it. */
struct ff_space {
	struct mm_struct *mm; /* mm_users reference until the stop is over */
	bool locked;	      /* we hold its mmap_lock for writing */
	bool changed;	      /* the VMAs are not as they were noted */
	struct ff_vma *vmas;
	u32 vma_count;
	u32 vma_capacity;
	u32 first_vma;	      /* in the image's table */
	pid_t tgid;	      /* of the first process that has it, for tracing */
	s32 target;	      /* that process' index, for failures */
	u32 arm_mode;	      /* enum ff_arm_mode */
	u32 arm_reason;	      /* enum ff_arm_reason */
	struct ff_lazy *lazy; /* NULL: armed eagerly */
	u64 anon_pages;	      /* counted in prepare */
	u64 armed_pages;
	u64 copied_pages;
	u64 arm_ns;
	u32 track;     /* enum ff_track */
	u64 parent_id; /* the snapshot before this one, or 0 */
	bool begun;    /* noted as the last snapshot of its mm, */
	bool touched;  /* and nothing can be told of the one before any more */
	unsigned long saved_auxv[AT_VECTOR_SIZE];
	struct file *exe; /* reference, or NULL */
	struct {
		unsigned long start_code, end_code, start_data, end_data;
		unsigned long start_brk, brk, start_stack;
		unsigned long arg_start, arg_end, env_start, env_end;
	} layout;
};

struct ff_process {
	struct task_struct *leader; /* reference */
	struct ff_space *space;
	struct ff_image_process image;
	struct ff_process_held held; /* noted in the stop, resolved into image after it */
};

struct ff_snapshot {
	u64 id;
	u32 try;	      /* how often this take has started over */
	struct ff_take *take; /* the caller's arguments and results; NULL once the call is over */

	struct ff_process *processes;
	u32 process_count;
	struct ff_space *spaces;
	u32 space_count;

	struct ff_disk *disk; /* NULL: no filesystem freezes with it */
	struct ff_freezer freezer;
	struct ff_pages pages;
	struct list_head shared; /* struct ff_shared, one per file */
	struct ff_state state;
	u64 instant_ns;
	u64 instant_realtime_ns;

	/* the image, from finalize on */
	void *meta;
	u64 meta_bytes; /* a multiple of PAGE_SIZE */
	u64 drain_begin_ns;
	struct mutex drain_lock; /* guards pages and maps, once the fd is open; inside mmap_lock */
	u16 *maps;		 /* how many mappings show each data page, which is not to be let go then */
};

static inline u64 ff_image_bytes(const struct ff_snapshot *snap)
{
	return snap->meta_bytes + snap->pages.count * PAGE_SIZE;
}

#define FF_NO_FAILURE ((struct ff_failure){ .target = -1, .fs = -1, .device = -1 })

/* Notes why a take fails, for the caller, and returns @err. */
static inline int ff_fail(struct ff_snapshot *snap, int err, enum ff_reason reason, s32 target, u64 detail)
{
	snap->take->failure.reason = reason;
	snap->take->failure.target = target;
	snap->take->failure.detail = detail;
	return err;
}

void ff_snapshot_free(struct ff_snapshot *snap);

#endif
