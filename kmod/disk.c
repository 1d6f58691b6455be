// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "disk.h"

#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "disk_thread.h"
#include "test.h"

/* Has the thread do @step, and waits for it; for good if @ms is 0, and in any case no longer than the caller lives. */
static int ff_disk_do(struct ff_snapshot *snap, int (*step)(struct ff_disk *disk), u32 ms)
{
	struct ff_disk *disk = snap->disk;
	long limit = ms ? msecs_to_jiffies(ms) : MAX_SCHEDULE_TIMEOUT, left;
	u32 asked = disk->asked + 1;

	disk->failure = FF_NO_FAILURE;
	disk->step = step;
	smp_store_release(&disk->asked, asked);
	wake_up_all(&disk->queue);
	left = wait_event_killable_timeout(disk->queue, smp_load_acquire(&disk->answered) == asked, limit);
	if (left < 0)
		return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
	if (!left) {
		snap->take->failure.fs = READ_ONCE(disk->failure.fs);
		return ff_fail(snap, -ETIMEDOUT, FF_REASON_FS_TIMEOUT, -1, 0);
	}
	if (disk->err) {
		u32 phase = snap->take->failure.phase;

		snap->take->failure = disk->failure;
		snap->take->failure.phase = phase;
	}
	return disk->err;
}

static int ff_disk_fail_early(struct ff_snapshot *snap, int err, u32 reason, s32 fs, s32 device)
{
	snap->take->failure.fs = fs;
	snap->take->failure.device = device;
	return ff_fail(snap, err, reason, -1, 0);
}

static int ff_disk_read_filesystems(struct ff_snapshot *snap, struct ff_disk *disk)
{
	struct ff_fs __user *from = u64_to_user_ptr(snap->take->filesystems);
	u32 count = snap->take->fs_count, index, other, reason;
	int err;

	disk->filesystems = kvcalloc(count, sizeof(*disk->filesystems), GFP_KERNEL);
	disk->gate.filesystems = kcalloc(count, sizeof(*disk->gate.filesystems), GFP_KERNEL);
	if (!disk->filesystems || !disk->gate.filesystems)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	for (index = 0; index < count; index++) {
		struct ff_frozen *fs = &disk->filesystems[index];

		if (copy_from_user(&fs->user, &from[index], sizeof(fs->user)))
			return ff_disk_fail_early(snap, -EFAULT, FF_REASON_BAD_POINTER, index, -1);
		if ((fs->user.flags & ~(FF_FS_READ_ONLY | FF_FS_TOGETHER)) || fs->user.reserved)
			return ff_disk_fail_early(snap, -EINVAL, FF_REASON_BAD_ARGUMENT, index, -1);
		disk->fs_count = index + 1;
		err = ff_fs_resolve(fs, &reason);
		if (err)
			return ff_disk_fail_early(snap, err, reason, index, -1);
		for (other = 0; other < index; other++) {
			if (disk->filesystems[other].sb == fs->sb)
				return ff_disk_fail_early(snap, -EEXIST, FF_REASON_FS_TWICE, index, -1);
		}
		disk->gate.filesystems[index] = fs->sb;
		disk->gate.count = index + 1;
	}
	return 0;
}

static int ff_disk_read_devices(struct ff_snapshot *snap, struct ff_disk *disk)
{
	struct ff_switch __user *from = u64_to_user_ptr(snap->take->switches);
	u32 count = snap->take->switch_count, index;

	disk->devices = kvcalloc(count, sizeof(*disk->devices), GFP_KERNEL);
	if (!disk->devices)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	for (index = 0; index < count; index++) {
		struct ff_switched *device = &disk->devices[index];

		if (copy_from_user(&device->user, &from[index], sizeof(device->user)))
			return ff_disk_fail_early(snap, -EFAULT, FF_REASON_BAD_POINTER, -1, index);
		if (device->user.fs >= disk->fs_count || device->user.switched || !device->user.sectors ||
		    !memchr(device->user.params, 0, FF_PARAMS_BYTES))
			return ff_disk_fail_early(snap, -EINVAL, FF_REASON_BAD_ARGUMENT, -1, index);
		device->slot = index;
		disk->device_count = index + 1;
	}
	return 0;
}

static int ff_disk_make_errands(struct ff_disk *disk)
{
	u32 index;

	disk->fs_errands = kvcalloc(disk->fs_count, sizeof(*disk->fs_errands), GFP_KERNEL);
	disk->device_errands = kvcalloc(disk->device_count, sizeof(*disk->device_errands), GFP_KERNEL);
	if (!disk->fs_errands || !disk->device_errands)
		return -ENOMEM;
	for (index = 0; index < disk->fs_count; index++)
		disk->fs_errands[index] = (struct ff_errand){ .disk = disk, .index = index, .fs = index };
	for (index = 0; index < disk->device_count; index++)
		disk->device_errands[index] =
			(struct ff_errand){ .disk = disk, .index = index, .fs = disk->devices[index].user.fs };
	return 0;
}

static int ff_disk_read(struct ff_snapshot *snap, struct ff_disk *disk)
{
	int err = ff_disk_read_filesystems(snap, disk);

	if (!err)
		err = ff_disk_read_devices(snap, disk);
	if (err)
		return err;
	err = ff_disk_make_errands(disk);
	if (err)
		return ff_fail(snap, err, FF_REASON_NO_MEMORY, -1, 0);
	if (!disk->device_count)
		return 0;
	err = ff_dm_open(&disk->dm, snap->take->dm_control, disk->device_count);
	if (err == -EBADF)
		return ff_fail(snap, err, FF_REASON_DM_CONTROL, -1, 0);
	return err ? ff_fail(snap, err, FF_REASON_NO_MEMORY, -1, 0) : 0;
}

static int ff_disk_start(struct ff_snapshot *snap, struct ff_disk *disk)
{
	struct task_struct *thread;

	__module_get(THIS_MODULE);
	kref_get(&disk->refs);
	thread = kthread_run(ff_disk_thread, disk, "freezeframe/%llu", snap->id);
	if (!IS_ERR(thread))
		return 0;
	kref_put(&disk->refs, ff_disk_free);
	module_put(THIS_MODULE);
	disk->gone = true;
	return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
}

int ff_disk_open(struct ff_snapshot *snap)
{
	struct ff_take *take = snap->take;
	struct ff_disk *disk;

	if (take->fs_count > FF_MAX_FILESYSTEMS || take->switch_count > FF_MAX_SWITCHES ||
	    (take->switch_count && !take->fs_count))
		return ff_fail(snap, -EINVAL, FF_REASON_BAD_ARGUMENT, -1, 0);
	if (!take->fs_count)
		return 0;
	disk = kzalloc(sizeof(*disk), GFP_KERNEL);
	if (!disk)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	kref_init(&disk->refs);
	init_waitqueue_head(&disk->queue);
	mmget(current->mm);
	disk->mm = current->mm;
	disk->deadline_ms = take->deadline_ms ?: FF_DEADLINE_DEFAULT_MS;
	ff_errands_init(&disk->errands, disk->mm, disk->deadline_ms);
	disk->gone = true; /* until the thread is there */
	/* From here on ff_disk_end() cleans up. */
	snap->disk = disk;
	return ff_disk_read(snap, disk);
}

int ff_disk_prepare(struct ff_snapshot *snap)
{
	int err;

	if (!snap->disk)
		return 0;
	if (ff_errands_start(&snap->disk->errands, max(snap->disk->fs_count, snap->disk->device_count)))
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	snap->disk->gone = false;
	err = ff_disk_start(snap, snap->disk);
	if (!err)
		err = ff_disk_do(snap, ff_disk_do_load, 0);
	if (!err)
		err = ff_disk_do(snap, ff_disk_do_sync, 0);
	return err;
}

int ff_disk_freeze(struct ff_snapshot *snap)
{
	struct ff_disk *disk = snap->disk;
	int err;

	if (ff_gate_ready() && !ff_test_skips_gate()) {
		disk->gated = true;
		ff_gate_raise(&disk->gate);
		err = ff_gate_drain(snap, &disk->gate, jiffies + msecs_to_jiffies(disk->deadline_ms));
		if (err)
			return err;
	}
	return ff_disk_do(snap, ff_disk_do_freeze, disk->deadline_ms);
}

static bool ff_disk_is_switched(const struct ff_disk *disk)
{
	u32 index;

	for (index = 0; index < disk->device_count; index++) {
		if (!disk->devices[index].user.switched)
			return false;
	}
	return disk->device_count;
}

int ff_disk_switch(struct ff_snapshot *snap)
{
	return ff_disk_do(snap, ff_disk_do_switch, snap->disk->deadline_ms);
}

int ff_disk_thaw(struct ff_snapshot *snap)
{
	int err = ff_disk_do(snap, ff_disk_do_thaw, snap->disk->deadline_ms);

	/* After the switch, the origin is as it was, whoever thawed. */
	if (!err && READ_ONCE(snap->disk->escaped) && !ff_disk_is_switched(snap->disk))
		return ff_fail(snap, -ETIMEDOUT, FF_REASON_DISK_ESCAPED, -1, 0);
	return err;
}

/* For what is told to a caller who is dying, nobody waits. */
static void ff_disk_write_back(struct ff_snapshot *snap, struct ff_disk *disk)
{
	struct ff_fs __user *filesystems = u64_to_user_ptr(snap->take->filesystems);
	struct ff_switch __user *switches = u64_to_user_ptr(snap->take->switches);
	unsigned long failed = 0;
	u32 index;

	for (index = 0; index < disk->fs_count; index++)
		failed |= copy_to_user(&filesystems[index], &disk->filesystems[index].user, sizeof(*filesystems));
	for (index = 0; index < disk->device_count; index++)
		failed |= copy_to_user(&switches[index], &disk->devices[index].user, sizeof(*switches));
	if (failed)
		pr_warn_once("freezeframe: the caller took back the memory for its results\n");
}

/* Here, the last references go before the call returns: whoever unmounts next does not find them in use. */
static void ff_disk_put_filesystems(struct ff_disk *disk)
{
	u32 index;

	for (index = 0; index < disk->fs_count; index++)
		ff_fs_put(&disk->filesystems[index]);
}

void ff_disk_end(struct ff_snapshot *snap)
{
	struct ff_disk *disk = snap->disk;
	bool gone;

	if (!disk)
		return;
	snap->disk = NULL;
	WRITE_ONCE(disk->ended, true);
	wake_up_all(&disk->queue);
	ff_errands_hurry(&disk->errands);
	gone = wait_event_timeout(disk->queue, smp_load_acquire(&disk->gone), msecs_to_jiffies(ff_disk_patience(disk)));
	ff_gate_lower(&disk->gate);
	ff_disk_write_back(snap, disk);
	if (gone && !disk->errands.left) {
		if (disk->dm.user)
			vm_munmap(disk->dm.user, disk->dm.bytes);
		ff_disk_put_filesystems(disk);
	}
	kref_put(&disk->refs, ff_disk_free);
}
