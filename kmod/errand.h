/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What is done to several filesystems or devices at the same time, each by a thread of its own: most of it is waiting,
 * for disks and for RCU. And one whose disk never answers holds up none of the others: it is left to its thread, which
 * takes back what it did when it returns after all.
 */
#ifndef FF_ERRAND_H
#define FF_ERRAND_H

#include <linux/list.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "freezeframe.h"

/* How many threads there are at the most. */
#define FF_ERRAND_THREADS 17

struct ff_disk;
struct ff_errand;

/* What is done for each, and to what end. */
struct ff_duty {
	int (*run)(struct ff_errand *errand);
	/* What else its thread does when nobody waited for it any more: takes back what @run did. Or NULL. */
	void (*late)(struct ff_errand *errand);
	/* It takes something back, and is begun even when nobody waits for it any more. */
	bool must;
};

enum ff_errand_state {
	FF_ERRAND_DONE, /* or never begun */
	FF_ERRAND_OPEN,
	FF_ERRAND_LEFT, /* for good: nobody waits for it any more */
};

/* One filesystem or device. */
struct ff_errand {
	struct ff_disk *disk;
	u32 index; /* of the filesystem or device */
	u32 fs;	   /* the filesystem that it is about */
	struct list_head link;
	const struct ff_duty *duty;
	atomic_t state;
	int err;
	struct ff_failure failure;
};

struct ff_errands {
	struct mm_struct *mm; /* that the threads borrow */
	struct task_struct *threads[FF_ERRAND_THREADS];
	u32 thread_count;	 /* 0: who wants something done does it by itself */
	spinlock_t lock;	 /* guards @open */
	struct list_head open;	 /* errands that no thread has begun */
	wait_queue_head_t queue; /* the threads, and who waits for them */
	unsigned int patience_ms;
	bool hasty; /* no errand is waited for longer than that */
	bool left;  /* some are */
};

void ff_errands_init(struct ff_errands *errands, struct mm_struct *mm, unsigned int patience_ms);
/*
 * Starts the threads, for so many errands at the most. Before anything freezes: a thread that is made takes memory,
 * which might then be waited for until the thaw.
 */
int ff_errands_start(struct ff_errands *errands, u32 most);
/* Waits for those that are left. Safe more than once. */
void ff_errands_stop(struct ff_errands *errands);

/*
 * Does @duty for all of @some. Returns the failure of the first that fails, but only when all are through or left;
 * those that are left from before do not count. See ff_errands_hurry(). Until then, @failure says which one is waited
 * for.
 */
int ff_errands_run(struct ff_errands *errands, struct ff_errand *some, u32 count, const struct ff_duty *duty,
		   struct ff_failure *failure);

/* From now on, those that take longer than patience_ms are left. */
void ff_errands_hurry(struct ff_errands *errands);

static inline bool ff_errand_is_left(const struct ff_errand *errand)
{
	return atomic_read(&errand->state) == FF_ERRAND_LEFT;
}

#endif
