// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "disk_thread.h"

#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "test.h"

/* How much longer than the deadline the thread waits for a word of the take, before it takes it for dead. */
#define FF_DISK_GRACE_MS 1000

unsigned int ff_disk_patience(const struct ff_disk *disk)
{
	return max_t(u32, disk->deadline_ms, FF_DEADLINE_DEFAULT_MS);
}

static int ff_errand_fail_fs(struct ff_errand *errand, int err, u32 reason)
{
	errand->failure.reason = reason;
	errand->failure.fs = errand->fs;
	return err;
}

static int ff_errand_fail_device(struct ff_errand *errand, int err, u32 reason)
{
	errand->failure.device = errand->index;
	return ff_errand_fail_fs(errand, err, reason);
}

static struct ff_frozen *ff_errand_fs(struct ff_errand *errand)
{
	return &errand->disk->filesystems[errand->index];
}

static struct ff_switched *ff_errand_device(struct ff_errand *errand)
{
	return &errand->disk->devices[errand->index];
}

static int ff_disk_each_fs(struct ff_disk *disk, u32 first, u32 end, const struct ff_duty *duty)
{
	return ff_errands_run(&disk->errands, &disk->fs_errands[first], end - first, duty, &disk->failure);
}

static int ff_disk_each_device(struct ff_disk *disk, const struct ff_duty *duty)
{
	return ff_errands_run(&disk->errands, disk->device_errands, disk->device_count, duty, &disk->failure);
}

static int ff_errand_undo_device(struct ff_errand *errand)
{
	ff_dm_undo(&errand->disk->dm, ff_errand_device(errand));
	return 0;
}

/* The take has reported it as not switched. */
static void ff_errand_take_back_device(struct ff_errand *errand)
{
	struct ff_switch *device = &ff_errand_device(errand)->user;

	if (device->switched)
		pr_warn("freezeframe: device %u:%u was switched long after it was to be; see `freezeframe ls`\n",
			FF_DM_NUMBERS(device));
	ff_errand_undo_device(errand);
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
	int err = ff_dm_load(&errand->disk->dm, ff_errand_device(errand));

	return err ? ff_errand_fail_device(errand, err, FF_REASON_DM_LOAD) : 0;
}

static const struct ff_duty ff_duty_load = { .run = ff_errand_load, .late = ff_errand_take_back_device };

int ff_disk_do_load(struct ff_disk *disk)
{
	return ff_disk_each_device(disk, &ff_duty_load);
}

static int ff_errand_sync(struct ff_errand *errand)
{
	u32 reason;
	int err = ff_fs_sync(ff_errand_fs(errand), &reason);

	return err ? ff_errand_fail_fs(errand, err, reason) : 0;
}

static const struct ff_duty ff_duty_sync = { .run = ff_errand_sync };

/* All at about the same time, or the first would be dirty again when the last is written back. */
int ff_disk_do_sync(struct ff_disk *disk)
{
	u32 first, end;
	int err = 0;

	for (first = 0; first < disk->fs_count && !err && !READ_ONCE(disk->ended); first = end) {
		end = ff_disk_together(disk, first);
		err = ff_disk_each_fs(disk, first, end, &ff_duty_sync);
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
	struct ff_switched *device = ff_errand_device(errand);
	int err = ff_dm_suspend(&errand->disk->dm, device);

	return err ? ff_errand_fail_device(errand, err, FF_REASON_DM_SUSPEND) : 0;
}

static const struct ff_duty ff_duty_suspend = { .run = ff_errand_suspend, .late = ff_errand_take_back_device };

static int ff_errand_switch(struct ff_errand *errand)
{
	int err = ff_dm_switch(&errand->disk->dm, ff_errand_device(errand));

	return err ? ff_errand_fail_device(errand, err, FF_REASON_DM_SWITCH) : 0;
}

static const struct ff_duty ff_duty_switch = { .run = ff_errand_switch, .late = ff_errand_take_back_device };

static int ff_errand_freeze(struct ff_errand *errand)
{
	u32 reason;
	int err = ff_fs_freeze(ff_errand_fs(errand), &reason);

	return err ? ff_errand_fail_fs(errand, err, reason) : 0;
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

static int ff_errand_thaw(struct ff_errand *errand)
{
	struct ff_frozen *fs = ff_errand_fs(errand);
	u32 reason;

	/* With its device suspended in time, what was written since somebody else thawed it has gone to the store. */
	if (!fs->frozen || !ff_fs_thaw(fs, &reason) || ff_disk_has_device(errand->disk, errand->index))
		return 0;
	return ff_errand_fail_fs(errand, -EBUSY, reason);
}

static void ff_errand_let_go(struct ff_errand *errand)
{
	ff_fs_let_go(ff_errand_fs(errand));
}

/* It has frozen after all, and nobody wants it any more. */
static void ff_errand_take_back_fs(struct ff_errand *errand)
{
	ff_errand_thaw(errand);
	ff_errand_let_go(errand);
}

static const struct ff_duty ff_duty_freeze = { .run = ff_errand_freeze, .late = ff_errand_take_back_fs };

/* Those of the filesystems from @first to @end, which do not rest on each other. */
static int ff_disk_suspend_of(struct ff_disk *disk, u32 first, u32 end)
{
	u32 index, next;
	int err = 0;

	for (index = 0; index < disk->device_count && !err; index = next) {
		for (next = index; next < disk->device_count; next++) {
			u32 fs = disk->devices[next].user.fs;

			if (fs < first || fs >= end)
				break;
		}
		if (next > index)
			err = ff_errands_run(&disk->errands, &disk->device_errands[index], next - index,
					     &ff_duty_suspend, &disk->failure);
		else
			next++;
	}
	return err;
}

/* What somebody else thawed before its device was suspended has been written to. */
static int ff_disk_still_frozen(struct ff_disk *disk)
{
	u32 index;

	for (index = 0; index < disk->fs_count; index++) {
		struct ff_frozen *fs = &disk->filesystems[index];

		if (fs->frozen && !ff_test_skips_freeze_fs() && ff_disk_has_device(disk, index) &&
		    !ff_fs_is_frozen(fs)) {
			disk->failure.fs = index;
			disk->failure.reason = FF_REASON_FS_THAWED;
			return -EBUSY;
		}
	}
	return 0;
}

/*
 * In the order in which they froze, as what is read from the upper one of two may have to be read from the lower one.
 */
static int ff_disk_suspend(struct ff_disk *disk)
{
	u32 first, end;
	int err = 0;

	for (first = 0; first < disk->fs_count && !err && !READ_ONCE(disk->ended); first = end) {
		end = ff_disk_together(disk, first);
		err = ff_disk_suspend_of(disk, first, end);
	}
	/* Whoever reads the outcome has gone: what is switched now would not be told. */
	if (!err && READ_ONCE(disk->ended))
		err = -EINTR;
	return err ?: ff_disk_still_frozen(disk);
}

int ff_disk_do_freeze(struct ff_disk *disk)
{
	u32 first, end;
	int err = 0;

	ff_disk_enter(disk);
	for (first = 0; first < disk->fs_count && !err && !READ_ONCE(disk->ended); first = end) {
		end = ff_disk_together(disk, first);
		err = ff_disk_each_fs(disk, first, end, &ff_duty_freeze);
	}
	/*
	 * Where anybody may thaw what we froze, the devices are suspended at once: then nothing gets to the origin
	 * before the switch, whatever happens to the filesystem. Elsewhere readers may go on until the switch.
	 */
	if (!err && !FF_FREEZES_NEST && !ff_test_skips_freeze_fs())
		err = ff_disk_suspend(disk);
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
	if (FF_FREEZES_NEST || ff_test_skips_freeze_fs())
		err = ff_disk_suspend(disk);
	else
		err = READ_ONCE(disk->ended) ? -EINTR : 0;
	return err ?: ff_disk_each_device(disk, &ff_duty_switch);
}

static const struct ff_duty ff_duty_thaw = { .run = ff_errand_thaw, .late = ff_errand_let_go, .must = true };

/* In reverse: what lies on a file of another filesystem thaws after that. */
int ff_disk_do_thaw(struct ff_disk *disk)
{
	u32 end = disk->fs_count, first, next, index;
	int err = 0;

	for (; end; end = first) {
		for (first = 0; (next = ff_disk_together(disk, first)) < end; first = next)
			;
		err = ff_disk_each_fs(disk, first, end, &ff_duty_thaw) ?: err;
	}
	ff_gate_lower(&disk->gate);
	ff_disk_leave(disk);
	for (index = 0; index < disk->fs_count; index++) {
		if (!ff_errand_is_left(&disk->fs_errands[index]))
			ff_fs_let_go(&disk->filesystems[index]);
	}
	return err;
}

static const struct ff_duty ff_duty_undo_device = { .run = ff_errand_undo_device, .must = true };

static void ff_disk_undo(struct ff_disk *disk)
{
	disk->errands.patience_ms = ff_disk_patience(disk);
	ff_errands_hurry(&disk->errands);
	ff_disk_each_device(disk, &ff_duty_undo_device);
	ff_disk_do_thaw(disk);
}

void ff_disk_free(struct kref *refs)
{
	struct ff_disk *disk = container_of(refs, struct ff_disk, refs);
	u32 index;

	ff_errands_stop(&disk->errands);
	if (disk->gated)
		synchronize_rcu(); /* page faults look at the gate */
	for (index = 0; index < disk->fs_count; index++)
		ff_fs_put(&disk->filesystems[index]);
	ff_dm_close(&disk->dm);
	kvfree(disk->filesystems);
	kvfree(disk->devices);
	kvfree(disk->fs_errands);
	kvfree(disk->device_errands);
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
	/* Here, and by nobody else, those that were left are waited for. */
	ff_errands_stop(&disk->errands);
	kref_put(&disk->refs, ff_disk_free);
	module_put_and_kthread_exit(0);
}
