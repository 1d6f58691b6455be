/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Locks on the files of the targets: of fcntl(), flock(), and leases. */
#ifndef FF_LOCKS_H
#define FF_LOCKS_H

#include <linux/fs.h>

#include "arena.h"
#include "freezeframe.h"

struct ff_lock {
	struct ff_lock *next;
	struct ff_image_lock image;
};

/* In the stop: those that were made by @file, by who has @owner or by the file itself. */
struct ff_lock *ff_locks_note(struct file_lock_context *context, struct file *file, struct files_struct *owner,
			      struct ff_arena *arena);

#endif
