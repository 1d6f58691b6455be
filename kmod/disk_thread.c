// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "disk_thread.h"

#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat.h"

/* How much longer than the deadline the thread waits for a word of the take, before it takes it for dead. */
#define FF_DISK_GRACE_MS 1000

static int ff_disk_fail_fs(struct ff_disk *disk, int err, u32 reason, u32 index)
{
	disk->failure.reason = reason;
	disk->failure.fs = index;
	return err;
}

static int ff_disk_fail_device(struct ff_disk *disk, int err, u32 reason, u32 index)
{
	disk->failure.reason = reason;
	disk->failure.device = index;
	disk->failure.fs = disk->devices[index].user.fs;
	return err;
}

int ff_disk_do_load(struct ff_disk *disk)
{
	u32 index;
	int err;

	for (index = 0; index < disk->device_count; index++) {
		err = ff_dm_load(&disk->dm, &disk->devices[index]);
		if (err)
			return ff_disk_fail_device(disk, err, FF_REASON_DM_LOAD, index);
	}
	return 0;
}

int ff_disk_do_sync(struct ff_disk *disk)
{
	u32 index, reason;
	int err;

	for (index = 0; index < disk->fs_count && !READ_ONCE(disk->ended); index++) {
		err = ff_fs_sync(&disk->filesystems[index], &reason);
		if (err)
			return ff_disk_fail_fs(disk, err, reason, index);
	}
	return 0;
}

static int ff_disk_suspend(struct ff_disk *disk, u32 index)
{
	int err = ff_dm_suspend(&disk->dm, &disk->devices[index]);

	return err ? ff_disk_fail_device(disk, err, FF_REASON_DM_SUSPEND, index) : 0;
}

/*
 * Where anybody may thaw what we froze, the devices are suspended at once: then nothing gets to the origin before the
 * switch, whatever happens to the filesystem. Elsewhere readers may go on until the switch.
 */
static int ff_disk_suspend_of(struct ff_disk *disk, u32 fs)
{
	u32 index;
	int err = 0;

	for (index = 0; index < disk->device_count && !err; index++) {
		if (disk->devices[index].user.fs == fs)
			err = ff_disk_suspend(disk, index);
	}
	return err;
}

static void ff_disk_enter(struct ff_disk *disk)
{
	disk->stopped = true;
	/* What memory needs must not be waited for where it cannot be written to. */
	disk->noio = memalloc_noio_save();
	/*
	 * Each freeze waits for RCU three times (percpu_down_write()), and so do suspend and swap: most of their time,
	 * unless it is expedited.
	 */
	rcu_expedite_gp();
}

static void ff_disk_leave(struct ff_disk *disk)
{
	if (!disk->stopped)
		return;
	rcu_unexpedite_gp();
	memalloc_noio_restore(disk->noio);
	disk->stopped = false;
}

int ff_disk_do_freeze(struct ff_disk *disk)
{
	u32 index, reason;
	int err = 0;

	ff_disk_enter(disk);
	for (index = 0; index < disk->fs_count && !err && !READ_ONCE(disk->ended); index++) {
		disk->failure.fs = index;
		err = ff_fs_freeze(&disk->filesystems[index], &reason);
		if (err)
			ff_disk_fail_fs(disk, err, reason, index);
		else if (!FF_FREEZES_NEST)
			err = ff_disk_suspend_of(disk, index);
	}
	return err;
}

int ff_disk_do_switch(struct ff_disk *disk)
{
	u32 index;
	int err = 0;

	/* The word came too late. */
	if (disk->escaped) {
		disk->failure.reason = FF_REASON_DISK_ESCAPED;
		return -ETIMEDOUT;
	}
	for (index = 0; index < disk->device_count && !err; index++) {
		if (!disk->devices[index].suspended)
			err = ff_disk_suspend(disk, index);
	}
	for (index = 0; index < disk->device_count && !err; index++) {
		err = ff_dm_switch(&disk->dm, &disk->devices[index]);
		if (err)
			ff_disk_fail_device(disk, err, FF_REASON_DM_SWITCH, index);
	}
	return err;
}

static bool ff_disk_has_device(const struct ff_disk *disk, u32 fs)
{
	u32 index;

	for (index = 0; index < disk->device_count; index++) {
		if (disk->devices[index].user.fs == fs)
			return true;
	}
	return false;
}

/* In reverse: what lies on a file of another filesystem thaws after that. */
int ff_disk_do_thaw(struct ff_disk *disk)
{
	u32 index = disk->fs_count, reason;
	int err = 0;

	while (index--) {
		if (!disk->filesystems[index].frozen || !ff_fs_thaw(&disk->filesystems[index], &reason))
			continue;
		/* With its device suspended in time, what was written since has gone to the store. */
		if (!ff_disk_has_device(disk, index))
			err = ff_disk_fail_fs(disk, -EBUSY, reason, index);
	}
	ff_gate_lower(&disk->gate);
	ff_disk_leave(disk);
	for (index = 0; index < disk->fs_count; index++)
		ff_fs_let_go(&disk->filesystems[index]);
	return err;
}

static void ff_disk_undo(struct ff_disk *disk)
{
	u32 index = disk->device_count;

	while (index--)
		ff_dm_undo(&disk->dm, &disk->devices[index]);
	ff_disk_do_thaw(disk);
}

void ff_disk_free(struct kref *refs)
{
	struct ff_disk *disk = container_of(refs, struct ff_disk, refs);
	u32 index;

	if (disk->gated)
		synchronize_rcu(); /* page faults look at the gate */
	for (index = 0; index < disk->fs_count; index++)
		ff_fs_put(&disk->filesystems[index]);
	ff_dm_close(&disk->dm);
	kvfree(disk->filesystems);
	kvfree(disk->devices);
	kfree(disk->gate.filesystems);
	mmput(disk->mm);
	kfree(disk);
}

static bool ff_disk_has_word(struct ff_disk *disk)
{
	return READ_ONCE(disk->ended) || smp_load_acquire(&disk->asked) != disk->answered;
}

static void ff_disk_await_word(struct ff_disk *disk)
{
	long grace = msecs_to_jiffies(disk->deadline_ms + FF_DISK_GRACE_MS);

	if (disk->stopped && !wait_event_idle_timeout(disk->queue, ff_disk_has_word(disk), grace)) {
		disk->escaped = true;
		ff_disk_undo(disk);
	}
	wait_event_idle(disk->queue, ff_disk_has_word(disk));
}

int ff_disk_thread(void *data)
{
	struct ff_disk *disk = data;

	kthread_use_mm(disk->mm);
	for (;;) {
		ff_disk_await_word(disk);
		if (READ_ONCE(disk->ended))
			break;
		disk->err = disk->step(disk);
		smp_store_release(&disk->answered, disk->answered + 1);
		wake_up_all(&disk->queue);
	}
	ff_disk_undo(disk);
	kthread_unuse_mm(disk->mm);
	smp_store_release(&disk->gone, true);
	wake_up_all(&disk->queue);
	kref_put(&disk->refs, ff_disk_free);
	module_put_and_kthread_exit(0);
}
