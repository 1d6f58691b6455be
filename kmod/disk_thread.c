// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "disk_thread.h"

#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat.h"

/* How much longer than the deadline the thread waits for a word of the take, before it takes it for dead. */
#define FF_DISK_GRACE_MS 1000

static int ff_disk_fail_fs(struct ff_failure *failure, int err, u32 reason, u32 index)
{
	failure->reason = reason;
	failure->fs = index;
	return err;
}

static int ff_errand_fail_device(struct ff_errand *errand, int err, u32 reason)
{
	errand->failure.reason = reason;
	errand->failure.device = errand->index;
	errand->failure.fs = errand->disk->devices[errand->index].user.fs;
	return err;
}

int ff_disk_start_workers(struct ff_disk *disk)
{
	u32 wanted = min_t(u32, max(disk->fs_count, disk->device_count) - 1, FF_DISK_WORKERS);
	struct kthread_worker *worker;

	while (disk->worker_count < wanted) {
		worker = kthread_create_worker(0, "ff-disk/%u", disk->worker_count);
		if (IS_ERR(worker))
			return PTR_ERR(worker);
		disk->workers[disk->worker_count++] = worker;
	}
	return 0;
}

static void ff_errand_work(struct kthread_work *work)
{
	struct ff_errand *errand = container_of(work, struct ff_errand, work);
	unsigned int noio = memalloc_noio_save();

	kthread_use_mm(errand->disk->mm);
	errand->err = errand->run(errand);
	kthread_unuse_mm(errand->disk->mm);
	memalloc_noio_restore(noio);
}

/*
 * Runs the errand for each of the filesystems or devices, at the same time: most of what they do is wait, for their
 * disks and for RCU. Returns the failure of the first that fails, but only when all are through.
 */
static int ff_disk_each(struct ff_disk *disk, u32 first, u32 end, int (*run)(struct ff_errand *errand), bool of_fs)
{
	struct ff_errand *errand;
	u32 index;
	int err = 0;

	for (index = first; index < end; index++) {
		errand = &disk->errands[index];
		errand->disk = disk;
		errand->index = index;
		errand->run = run;
		errand->failure = FF_NO_FAILURE;
		kthread_init_work(&errand->work, ff_errand_work);
		if (index > first)
			kthread_queue_work(disk->workers[(index - first) % disk->worker_count], &errand->work);
	}
	for (index = first; index < end; index++) {
		errand = &disk->errands[index];
		/* Whoever waits for us in vain says for which one. */
		if (of_fs && !err)
			WRITE_ONCE(disk->failure.fs, index);
		if (index > first)
			kthread_flush_work(&errand->work);
		else
			errand->err = run(errand);
		if (errand->err && !err) {
			err = errand->err;
			disk->failure = errand->failure;
		}
	}
	return err;
}

/* The end of those that are served together with the one at @first. What shares a disk would only take turns at it. */
static u32 ff_disk_together(const struct ff_disk *disk, u32 first)
{
	u32 end, other;

	for (end = first + 1; end < disk->fs_count; end++) {
		if (!(disk->filesystems[end].user.flags & FF_FS_TOGETHER))
			return end;
		for (other = first; other < end; other++) {
			if (disk->filesystems[other].sb->s_bdi == disk->filesystems[end].sb->s_bdi)
				return end;
		}
	}
	return end;
}

static int ff_errand_load(struct ff_errand *errand)
{
	int err = ff_dm_load(&errand->disk->dm, &errand->disk->devices[errand->index]);

	return err ? ff_errand_fail_device(errand, err, FF_REASON_DM_LOAD) : 0;
}

int ff_disk_do_load(struct ff_disk *disk)
{
	return ff_disk_each(disk, 0, disk->device_count, ff_errand_load, false);
}

static int ff_errand_sync(struct ff_errand *errand)
{
	u32 reason;
	int err = ff_fs_sync(&errand->disk->filesystems[errand->index], &reason);

	return err ? ff_disk_fail_fs(&errand->failure, err, reason, errand->index) : 0;
}

/* All at about the same time, or the first would be dirty again when the last is written back. */
int ff_disk_do_sync(struct ff_disk *disk)
{
	u32 first, end;
	int err = 0;

	for (first = 0; first < disk->fs_count && !err && !READ_ONCE(disk->ended); first = end) {
		end = ff_disk_together(disk, first);
		err = ff_disk_each(disk, first, end, ff_errand_sync, true);
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

static int ff_errand_suspend(struct ff_errand *errand)
{
	struct ff_switched *device = &errand->disk->devices[errand->index];
	int err = device->suspended ? 0 : ff_dm_suspend(&errand->disk->dm, device);

	return err ? ff_errand_fail_device(errand, err, FF_REASON_DM_SUSPEND) : 0;
}

static int ff_errand_switch(struct ff_errand *errand)
{
	int err = ff_dm_switch(&errand->disk->dm, &errand->disk->devices[errand->index]);

	return err ? ff_errand_fail_device(errand, err, FF_REASON_DM_SWITCH) : 0;
}

static int ff_errand_freeze(struct ff_errand *errand)
{
	u32 reason;
	int err = ff_fs_freeze(&errand->disk->filesystems[errand->index], &reason);

	return err ? ff_disk_fail_fs(&errand->failure, err, reason, errand->index) : 0;
}

/*
 * Where anybody may thaw what we froze, the devices are suspended at once: then nothing gets to the origin before the
 * switch, whatever happens to the filesystem. Elsewhere readers may go on until the switch.
 */
static int ff_disk_suspend_of(struct ff_disk *disk, u32 first, u32 end)
{
	u32 index, fs;
	int err = 0;

	for (index = 0; index < disk->device_count && !err; index++) {
		fs = disk->devices[index].user.fs;
		if (fs >= first && fs < end)
			err = ff_disk_each(disk, index, index + 1, ff_errand_suspend, false);
	}
	return err;
}

int ff_disk_do_freeze(struct ff_disk *disk)
{
	u32 first, end;
	int err = 0;

	ff_disk_enter(disk);
	for (first = 0; first < disk->fs_count && !err && !READ_ONCE(disk->ended); first = end) {
		end = ff_disk_together(disk, first);
		err = ff_disk_each(disk, first, end, ff_errand_freeze, true);
		if (!err && !FF_FREEZES_NEST)
			err = ff_disk_suspend_of(disk, first, end);
	}
	return err;
}

int ff_disk_do_switch(struct ff_disk *disk)
{
	int err;

	/* The word came too late. */
	if (disk->escaped) {
		disk->failure.reason = FF_REASON_DISK_ESCAPED;
		return -ETIMEDOUT;
	}
	err = ff_disk_each(disk, 0, disk->device_count, ff_errand_suspend, false);
	return err ?: ff_disk_each(disk, 0, disk->device_count, ff_errand_switch, false);
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
			err = ff_disk_fail_fs(&disk->failure, -EBUSY, reason, index);
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

	while (disk->worker_count)
		kthread_destroy_worker(disk->workers[--disk->worker_count]);
	if (disk->gated)
		synchronize_rcu(); /* page faults look at the gate */
	for (index = 0; index < disk->fs_count; index++)
		ff_fs_put(&disk->filesystems[index]);
	ff_dm_close(&disk->dm);
	kvfree(disk->filesystems);
	kvfree(disk->devices);
	kvfree(disk->errands);
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
