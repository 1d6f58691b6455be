/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The thread that does the disk's half, one step after the other, as the take asks for them (disk.h). What it froze it
 * thaws by itself when the take says nothing for too long. What may wait for a disk is an errand (errand.h), so that no
 * disk that hangs keeps the others frozen.
 */
#ifndef FF_DISK_THREAD_H
#define FF_DISK_THREAD_H

#include <linux/kref.h>

#include "dm.h"
#include "errand.h"
#include "fs.h"
#include "gate.h"

struct ff_disk {
	struct kref refs;     /* the take's and the thread's */
	struct mm_struct *mm; /* the caller's; mm_users reference */
	struct ff_dm dm;
	struct ff_frozen *filesystems;
	u32 fs_count;
	struct ff_switched *devices;
	u32 device_count;
	struct ff_errands errands;
	struct ff_errand *fs_errands, *device_errands; /* one for each */
	struct ff_gate gate;
	bool gated; /* the gate was raised */
	u32 deadline_ms;

	/* What the take asks, and what the thread answers. */
	wait_queue_head_t queue;
	int (*step)(struct ff_disk *disk);
	u32 asked, answered; /* steps so far; the one who counts up has written all else before */
	int err;
	struct ff_failure failure;
	bool ended;	   /* the take has nothing more to ask */
	bool stopped;	   /* something is, or may be, frozen */
	unsigned int noio; /* how allocations were before */
	bool escaped;	   /* the take said nothing for so long that all was undone */
	bool gone;	   /* the thread is through */
};

/* A kthread's function, for a struct ff_disk; holds a reference to it, and one to the module. */
int ff_disk_thread(void *data);
void ff_disk_free(struct kref *refs);
/*
 * For how long undoing is waited for, in ms: not so much shorter than it takes on a disk that is well, however short a
 * stop is allowed to be.
 */
unsigned int ff_disk_patience(const struct ff_disk *disk);

/* The steps. */
int ff_disk_do_load(struct ff_disk *disk);
int ff_disk_do_sync(struct ff_disk *disk);
int ff_disk_do_freeze(struct ff_disk *disk);
int ff_disk_do_switch(struct ff_disk *disk);
int ff_disk_do_thaw(struct ff_disk *disk);

#endif
