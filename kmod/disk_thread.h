/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The thread that does the disk's half, one step after the other, as the take asks for them (disk.h). What it froze it
 * thaws by itself when the take says nothing for too long.
 */
#ifndef FF_DISK_THREAD_H
#define FF_DISK_THREAD_H

#include <linux/kref.h>
#include <linux/kthread.h>
#include <linux/wait.h>

#include "dm.h"
#include "fs.h"
#include "gate.h"

/* How many filesystems or devices are served at the same time, beside the one that the thread itself serves. */
#define FF_DISK_WORKERS 15

/* One filesystem or device that is served beside others. */
struct ff_errand {
	struct kthread_work work;
	struct ff_disk *disk;
	u32 index; /* of the filesystem or device */
	int (*run)(struct ff_errand *errand);
	int err;
	struct ff_failure failure;
};

struct ff_disk {
	struct kref refs;     /* the take's and the thread's */
	struct mm_struct *mm; /* the caller's; mm_users reference */
	struct task_struct *thread;
	struct ff_dm dm;
	struct ff_frozen *filesystems;
	u32 fs_count;
	struct ff_switched *devices;
	u32 device_count;
	struct ff_errand *errands;			 /* as many as filesystems, and as devices */
	struct kthread_worker *workers[FF_DISK_WORKERS]; /* beside the thread */
	u32 worker_count;
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
 * Starts its workers. Before anything freezes: a thread that is made takes memory, which might then be waited for until
 * the thaw, and the thaw waits for the thread.
 */
int ff_disk_start_workers(struct ff_disk *disk);

/* The steps. */
int ff_disk_do_load(struct ff_disk *disk);
int ff_disk_do_sync(struct ff_disk *disk);
int ff_disk_do_freeze(struct ff_disk *disk);
int ff_disk_do_switch(struct ff_disk *disk);
int ff_disk_do_thaw(struct ff_disk *disk);

#endif
