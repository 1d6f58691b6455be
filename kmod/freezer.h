/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Freezing by task work: each thread gets work that parks it on its way to user mode. What else counts as still is the
 * mode's (enum ff_freeze_mode):
 *
 * SOFT    A thread that sleeps in the kernel: the work is queued, so it cannot reach user mode without parking.
 * IPI     Also one that was preempted in user mode, for the same reason: the way back leads past the work. So nobody
 *         has to wait until each of many threads has had a processor. One interrupt to the processors that run threads
 *         of the targets, and nobody is in user mode any more.
 * SIGNAL  Sleeps that can be interrupted are; what sleeps on cannot be.
 */
#ifndef FF_FREEZER_H
#define FF_FREEZER_H

#include <linux/completion.h>
#include <linux/hashtable.h>
#include <linux/spinlock.h>
#include <linux/task_work.h>
#include <linux/wait.h>

#include "freezeframe.h"
#include "state.h"

struct ff_snapshot;
struct ff_freezer;

struct ff_thread {
	struct callback_head work;
	struct ff_freezer *freezer;
	struct task_struct *task; /* reference */
	struct hlist_node hash;
	struct list_head link;
	u32 process; /* index into the snapshot's processes */
	u32 state;   /* enum ff_thread_state, 0 while it is not still */
	bool queued; /* the work was handed to the thread */
	bool parked; /* written by the thread itself */
	bool gone;   /* exited before it was still */
	u64 asked_ns;
	u64 still_ns;
	unsigned long switches; /* context switches when it was found asleep */
	bool regs_own;		/* parked, and copies its registers itself; written before that is set */
	spinlock_t regs_lock;	/* guards what follows, from when it is asked until it has left */
	void *regs;		/* register sets as the image has them */
	u32 regs_length;
	u32 regs_room;
	bool regs_due; /* the FPU's registers are still to be copied */
	struct ff_image_thread image;
	struct ff_thread_held held; /* noted in the stop, resolved into image after it */
};

struct ff_freezer {
	spinlock_t lock; /* guards threads, known, spare and thread_count */
	struct list_head threads;
	struct list_head spare; /* allocated ahead, for threads found where nothing can be allocated */
	DECLARE_HASHTABLE(known, 8);
	u64 asked_ns; /* when the scan began; reading the clock once per thread is a good part of the freeze */
	u32 mode;     /* enum ff_freeze_mode, never FF_FREEZE_AUTO */
	u32 thread_count;
	bool short_of_memory; /* a new thread could not be noted */

	wait_queue_head_t parking; /* where the parked threads wait for thawed */
	bool thawed;
	bool closed;		/* the work is taken back */
	bool escaped;		/* a parked thread left at the deadline */
	unsigned long deadline; /* in jiffies */
	atomic_t busy;		/* works queued and neither run nor cancelled, + 1 */
	struct completion idle; /* busy is 0 */
};

/* The work that parks a thread. */
void ff_thread_park(struct callback_head *work);

/* Allocates for all threads that there are. */
int ff_freezer_prepare(struct ff_snapshot *snap);
/* See ff_spaces_rehearse(). */
void ff_freezer_rehearse(struct ff_snapshot *snap);
void ff_freezer_open(struct ff_snapshot *snap);
int ff_freezer_freeze(struct ff_snapshot *snap);
/* Those of the spaces with workers that run on in the stop, and may be in the midst of GUP, are not armed by PUD. */
void ff_freezer_note_workers(struct ff_snapshot *snap);
/* Notes which sleepers ran while the memory was armed; fails if a thread left at the deadline. */
int ff_freezer_check(struct ff_snapshot *snap);
/* Lets every thread go: the end of the window. Safe at any point, more than once. */
void ff_freezer_thaw(struct ff_snapshot *snap);
/* Takes the work back from the sleepers; after it no thread touches the freezer. Safe more than once. */
void ff_freezer_close(struct ff_snapshot *snap);
void ff_freezer_free(struct ff_snapshot *snap);

#endif
