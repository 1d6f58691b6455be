// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "locks.h"

#include <linux/list.h>

#include "compat.h"

static struct ff_lock *ff_lock_new(const ff_file_lock *lock, u32 kind, struct ff_arena *arena)
{
	struct ff_lock *noted = ff_arena_take_zeroed(arena, sizeof(*noted));

	if (!noted)
		return NULL;
	noted->image.kind = kind;
	noted->image.write = ff_lock_type(lock) == F_WRLCK;
	noted->image.holder = -1;
	noted->image.end = U64_MAX;
	if (kind != FF_LOCK_LEASE) {
		noted->image.start = ff_lock_start(lock);
		if (ff_lock_end(lock) != OFFSET_MAX)
			noted->image.end = ff_lock_end(lock);
	}
	return noted;
}

/* As show_fd_locks() tells them apart, which is behind /proc/PID/fdinfo. */
struct ff_lock *ff_locks_note(struct file_lock_context *context, struct file *file, struct files_struct *owner,
			      struct ff_arena *arena)
{
	struct ff_lock *all = NULL, *noted;
	ff_file_lock *lock;
	struct {
		struct list_head *list;
		u32 kind;
	} lists[] = {
		{ &context->flc_posix, FF_LOCK_POSIX },
		{ &context->flc_flock, FF_LOCK_FLOCK },
		{ &context->flc_lease, FF_LOCK_LEASE },
	};
	u32 index;

	if (list_empty_careful(&context->flc_posix) && list_empty_careful(&context->flc_flock) &&
	    list_empty_careful(&context->flc_lease))
		return NULL;
	spin_lock(&context->flc_lock);
	for (index = 0; index < ARRAY_SIZE(lists); index++) {
		list_for_each_entry(lock, lists[index].list, ff_lock_link) {
			u32 kind = lists[index].kind;

			if (ff_lock_file(lock) != file || (ff_lock_owner(lock) != owner && ff_lock_owner(lock) != file))
				continue;
			if (kind == FF_LOCK_POSIX && ff_lock_is_ofd(lock))
				kind = FF_LOCK_OFD;
			if (kind == FF_LOCK_LEASE && !ff_lock_is_lease(lock))
				continue; /* a delegation or layout of the NFS server */
			noted = ff_lock_new(lock, kind, arena);
			if (!noted)
				continue;
			noted->next = all;
			all = noted;
		}
	}
	spin_unlock(&context->flc_lock);
	return all;
}
