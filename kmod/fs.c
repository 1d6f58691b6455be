// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "fs.h"

#include <linux/backing-dev.h>
#include <linux/file.h>
#include <linux/magic.h>
#include <linux/rcupdate.h>
#include <linux/rculist.h>
#include <linux/timekeeping.h>

#include "compat.h"
#include "test.h"

/*
 * The first pass may take long, and what was dirtied meanwhile is the second one's. With more of them there is hardly
 * less left for the freeze.
 */
#define FF_SYNC_PASSES 2

/*
 * freeze_super() does something for every filesystem, but only where there is a device beneath does all that writes
 * pass by it (on tmpfs and overlay, stores through mmap do not), and only where no process serves it can we be sure
 * that it ever returns.
 */
static bool ff_fs_can_freeze(struct super_block *sb)
{
	if (sb->s_magic == FUSE_SUPER_MAGIC)
		return false;
	return (sb->s_type->fs_flags & FS_REQUIRES_DEV) || sb->s_op->freeze_fs || sb->s_op->freeze_super;
}

static bool ff_fs_is_read_only(const struct ff_frozen *fs)
{
	return fs->user.flags & FF_FS_READ_ONLY;
}

int ff_fs_resolve(struct ff_frozen *fs, u32 *reason)
{
	fs->file = fget_raw(fs->user.fd);
	if (!fs->file) {
		*reason = FF_REASON_FS_BAD_FD;
		return -EBADF;
	}
	fs->sb = fs->file->f_path.mnt->mnt_sb;
	if (ff_fs_is_read_only(fs) ? !ff_readonly_suits(fs->sb) : !ff_fs_can_freeze(fs->sb)) {
		*reason = FF_REASON_FS_KIND;
		return -EOPNOTSUPP;
	}
	if (READ_ONCE(fs->sb->s_writers.frozen) != SB_UNFROZEN) {
		*reason = FF_REASON_FS_FROZEN;
		return -EBUSY;
	}
	return 0;
}

/* Pages written back so far by the device of a filesystem, whichever cgroup dirtied them. */
static u64 ff_fs_written(struct super_block *sb)
{
	struct bdi_writeback *wb;
	u64 pages = 0;

	rcu_read_lock();
	list_for_each_entry_rcu(wb, &sb->s_bdi->wb_list, bdi_node) {
		/* Its counters go before it does. */
		if (!wb_tryget(wb))
			continue;
		pages += wb_stat_sum(wb, WB_WRITTEN);
		wb_put(wb);
	}
	rcu_read_unlock();
	return pages;
}

/* What a cgroup wrote that has gone meanwhile counts for nothing. */
static u64 ff_fs_written_since(struct super_block *sb, u64 before)
{
	u64 now = ff_fs_written(sb);

	return now - min(now, before);
}

int ff_fs_sync(struct ff_frozen *fs, u32 *reason)
{
	u64 before = ff_fs_written(fs->sb);
	u32 pass;
	int err = 0;

	fs->user.sync.begin_ns = ktime_get_ns();
	for (pass = 0; pass < FF_SYNC_PASSES && !err; pass++) {
		down_read(&fs->sb->s_umount);
		err = sync_filesystem(fs->sb);
		up_read(&fs->sb->s_umount);
	}
	fs->user.sync.end_ns = ktime_get_ns();
	fs->user.sync_pages = ff_fs_written_since(fs->sb, before);
	if (err)
		*reason = FF_REASON_FS_SYNC;
	return err;
}

/* Its writers wait already, or will when they write next. */
static int ff_fs_downgrade(struct ff_frozen *fs)
{
	u32 writers;
	int err;

	/* Where nobody can write, freezing did nothing either. */
	if (!ff_fs_is_read_only(fs) || sb_rdonly(fs->sb))
		return 0;
	err = ff_readonly_begin(&fs->readonly, fs->sb);
	ff_readonly_count(fs->sb, &writers, &fs->user.mappings);
	fs->user.downgraded = fs->readonly.count;
	fs->user.unseen = writers - min(writers, fs->user.downgraded);
	return err;
}

int ff_fs_freeze(struct ff_frozen *fs, u32 *reason)
{
	u64 before = ff_fs_written(fs->sb);
	int err;

	fs->user.freeze.begin_ns = ktime_get_ns();
	if (ff_test_skips_freeze_fs())
		err = 0;
	else
		err = ff_freeze_super(fs->sb);
	fs->frozen = !err;
	if (err) {
		*reason = err == -EBUSY ? FF_REASON_FS_FROZEN : FF_REASON_FS_FREEZE;
	} else {
		err = ff_fs_downgrade(fs);
		*reason = FF_REASON_NO_MEMORY;
	}
	fs->user.freeze.end_ns = ktime_get_ns();
	fs->user.freeze_pages = ff_fs_written_since(fs->sb, before);
	return err;
}

int ff_fs_thaw(struct ff_frozen *fs, u32 *reason)
{
	int err;

	fs->user.thaw.begin_ns = ktime_get_ns();
	ff_readonly_end(&fs->readonly, fs->sb);
	err = ff_test_skips_freeze_fs() ? 0 : ff_thaw_super(fs->sb);
	fs->user.thaw.end_ns = ktime_get_ns();
	fs->frozen = false;
	if (err)
		*reason = FF_REASON_FS_THAWED;
	return err;
}

bool ff_fs_is_frozen(const struct ff_frozen *fs)
{
	return READ_ONCE(fs->sb->s_writers.frozen) == SB_FREEZE_COMPLETE;
}

void ff_fs_let_go(struct ff_frozen *fs)
{
	ff_readonly_put(&fs->readonly);
}

void ff_fs_put(struct ff_frozen *fs)
{
	if (fs->file)
		fput(fs->file);
	fs->file = NULL;
}
