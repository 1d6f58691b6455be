// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "readonly.h"

#include <linux/delay.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "test.h"

/* What write(), pwrite() and mmap() ask for. */
#define FF_WRITES (FMODE_WRITE | FMODE_CAN_WRITE | FMODE_PWRITE)

/*
 * How often the descriptors are looked through while there are more writers than we found: who has opened a file, but
 * not yet got the descriptor, is seen the next time. The others have no descriptor: files that are only mapped, on
 * their way through a socket, or the kernel's own.
 */
#define FF_READONLY_PASSES 3

/* Room for the files that the next pass may find, and then some. */
#define FF_READONLY_SPARE 64

struct ff_readonly_scan {
	struct ff_readonly *readonly;
	struct super_block *sb;
	bool full;
};

bool ff_readonly_suits(const struct super_block *sb)
{
	static const char *const kinds[] = { "tmpfs", "ramfs", "overlay", "fuse", "fuseblk" };
	u32 index;

	if (sb->s_flags & (SB_KERNMOUNT | SB_NOUSER))
		return false;
	for (index = 0; index < ARRAY_SIZE(kinds); index++) {
		if (!strcmp(sb->s_type->name, kinds[index]))
			return true;
	}
	return false;
}

void ff_readonly_count(struct super_block *sb, u32 *writers, u32 *mappings)
{
	struct inode *inode;

	*writers = 0;
	*mappings = 0;
	spin_lock(&sb->s_inode_list_lock);
	list_for_each_entry(inode, &sb->s_inodes, i_sb_list) {
		/* Negative: nobody may. */
		*writers += max(atomic_read(&inode->i_writecount), 0);
		*mappings += max(atomic_read(&inode->i_data.i_mmap_writable), 0);
	}
	spin_unlock(&sb->s_inode_list_lock);
}

/* Under the lock of the table of descriptors. A file that was found before does not write any more. */
static int ff_readonly_downgrade(const void *data, struct file *file, unsigned int fd)
{
	struct ff_readonly_scan *scan = (struct ff_readonly_scan *)data;
	struct ff_readonly *readonly = scan->readonly;
	struct ff_downgraded *downgraded;

	if (file_inode(file)->i_sb != scan->sb || !(file->f_mode & FMODE_WRITE) || !(file->f_mode & FMODE_WRITER))
		return 0;
	if (readonly->count == readonly->capacity) {
		scan->full = true;
		return 1;
	}
	downgraded = &readonly->files[readonly->count++];
	downgraded->file = get_file(file);
	spin_lock(&file->f_lock);
	downgraded->taken = file->f_mode & FF_WRITES;
	file->f_mode &= ~FF_WRITES;
	spin_unlock(&file->f_lock);
	return 0;
}

/* Returns whether there was room for all. */
static bool ff_readonly_pass(struct ff_readonly_scan *scan)
{
	struct task_struct *process, *thread;

	scan->full = false;
	rcu_read_lock();
	for_each_process_thread(process, thread)
	{
		/* One look for all the threads that share them. */
		if (thread != process && READ_ONCE(thread->files) == READ_ONCE(process->files))
			continue;
		task_lock(thread);
		if (thread->files)
			iterate_fd(thread->files, 0, ff_readonly_downgrade, scan);
		task_unlock(thread);
		if (scan->full)
			break;
	}
	rcu_read_unlock();
	return !scan->full;
}

static int ff_readonly_grow(struct ff_readonly *readonly, u32 capacity)
{
	struct ff_downgraded *files = kvcalloc(capacity, sizeof(*files), GFP_KERNEL);

	if (!files)
		return -ENOMEM;
	if (readonly->count)
		memcpy(files, readonly->files, readonly->count * sizeof(*files));
	kvfree(readonly->files);
	readonly->files = files;
	readonly->capacity = capacity;
	return 0;
}

static void ff_readonly_set(struct ff_readonly *readonly, struct super_block *sb, bool on)
{
	/* As a remount to read-only does it, and under its lock: __mnt_want_write() says EROFS while this is set. */
	down_write(&sb->s_umount);
	smp_wmb();
	WRITE_ONCE(sb->s_readonly_remount, on);
	smp_wmb();
	up_write(&sb->s_umount);
	readonly->on = on;
}

int ff_readonly_begin(struct ff_readonly *readonly, struct super_block *sb)
{
	struct ff_readonly_scan scan = { .readonly = readonly, .sb = sb };
	u32 writers, mappings, pass;
	int err;

	if (ff_test_skips_readonly())
		return 0;
	ff_readonly_set(readonly, sb, true);
	/* __mnt_want_write() looks with preemption off: who did so before has counted as a writer after this. */
	synchronize_rcu();
	for (pass = 0; pass < FF_READONLY_PASSES; pass++) {
		ff_readonly_count(sb, &writers, &mappings);
		if (pass && writers <= readonly->count)
			break;
		if (pass)
			usleep_range(200, 400);
		do {
			err = ff_readonly_grow(readonly, max(writers, readonly->count) + FF_READONLY_SPARE);
			if (err)
				return err;
		} while (!ff_readonly_pass(&scan));
	}
	return 0;
}

void ff_readonly_end(struct ff_readonly *readonly, struct super_block *sb)
{
	u32 index = readonly->count;

	while (index--) {
		struct ff_downgraded *downgraded = &readonly->files[index];

		spin_lock(&downgraded->file->f_lock);
		downgraded->file->f_mode |= downgraded->taken;
		spin_unlock(&downgraded->file->f_lock);
		downgraded->taken = 0;
	}
	if (readonly->on)
		ff_readonly_set(readonly, sb, false);
}

void ff_readonly_put(struct ff_readonly *readonly)
{
	u32 index;

	/* At once, not by a worker: or an unmount that follows the take finds it busy. */
	for (index = 0; index < readonly->count; index++)
		__fput_sync(readonly->files[index].file);
	if (readonly->count)
		flush_delayed_fput(); /* and what those files had open */
	kvfree(readonly->files);
	*readonly = (struct ff_readonly){};
}
