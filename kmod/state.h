/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the kernel keeps for the targets besides memory and registers: signals, timers, credentials, limits, scheduling,
 * descriptors. The stop copies what is small and takes references to the rest, without sleeping and without any lock
 * that somebody could hold who waits for us; what there is to say of it is found out afterwards, through the
 * references, which are dropped at once then.
 */
#ifndef FF_STATE_H
#define FF_STATE_H

#include <linux/resource.h>

#include "arena.h"
#include "bytes.h"
#include "files.h"
#include "filetable.h"
#include "preview.h"
#include "signals.h"
#include "who.h"

struct ff_snapshot;

/* Of one process. What is not references is in the arena, or in the process's record. */
struct ff_process_held {
	struct ff_who who;
	struct ff_signal_state signals;
	struct ff_descriptors descriptors;
	struct rlimit limits[RLIM_NLIMITS];
};

/* Of one thread. */
struct ff_thread_held {
	const struct cred *cred; /* reference; NULL: as its process's */
	struct ff_signals pending;
	u8 *cpus; /* in the arena */
};

/* Of the snapshot. */
struct ff_state {
	struct ff_arena arena;
	struct ff_previews previews;
	struct ff_bytes bytes;	    /* the blobs, which the image goes on with */
	struct ff_file_table files; /* what becomes the image's tables */
};

/* Measures how much room the stop will need, and has it. Sleeps. */
int ff_state_prepare(struct ff_snapshot *snap);
/* Does what the stop will do, and undoes it. */
void ff_state_rehearse(struct ff_snapshot *snap);
/* In the stop. -EAGAIN: there is more than was measured. */
int ff_state_stop(struct ff_snapshot *snap);
/* Turns what was noted into records and blobs, and drops every reference. */
int ff_state_resolve(struct ff_snapshot *snap);
void ff_state_free(struct ff_snapshot *snap);

#endif
