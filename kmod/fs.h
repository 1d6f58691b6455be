/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* One filesystem: written back, frozen, thawed. */
#ifndef FF_FS_H
#define FF_FS_H

#include <linux/fs.h>

#include "freezeframe.h"
#include "readonly.h"

struct ff_frozen {
	struct ff_fs user;	/* what the caller asked, and what it is told */
	struct file *file;	/* reference; as long as we have it, the filesystem is not unmounted */
	struct super_block *sb; /* of @file */
	bool frozen;		/* by us */
	struct ff_readonly readonly;
};

/* Each of these returns a negative errno, and says why in @reason. */
int ff_fs_resolve(struct ff_frozen *fs, u32 *reason);
/* While writers go on, so that there is less to write when they stand still. */
int ff_fs_sync(struct ff_frozen *fs, u32 *reason);
int ff_fs_freeze(struct ff_frozen *fs, u32 *reason);
/* Of a filesystem that we have frozen. FF_REASON_FS_THAWED: somebody else was first. */
int ff_fs_thaw(struct ff_frozen *fs, u32 *reason);
/* By whomever. */
bool ff_fs_is_frozen(const struct ff_frozen *fs);
/* Once all are thawed, in a kernel thread. Safe more than once. */
void ff_fs_let_go(struct ff_frozen *fs);
/* Safe more than once. */
void ff_fs_put(struct ff_frozen *fs);

#endif
