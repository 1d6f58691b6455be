// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "disk.h"

#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "compat.h"
#include "dm.h"
#include "fs.h"
#include "gate.h"
#include "test.h"

/* How much longer than the deadline the thread waits for a word of the take, before it takes it for dead. */
#define FF_DISK_GRACE_MS 1000

struct ff_disk {
	struct kref refs;     /* the take's and the thread's */
	struct mm_struct *mm; /* the caller's; mm_users reference */
	struct task_struct *thread;
	struct ff_dm dm;
	struct ff_frozen *filesystems;
	u32 fs_count;
	struct ff_switched *devices;
	u32 device_count;
	struct ff_gate gate;
	bool gated; /* the gate was raised */
	u32 deadline_ms;

	/* What the take asks, and what the thread answers. */
	wait_queue_head_t queue;
	int (*step)(struct ff_disk *disk);
	u32 asked, answered; /* steps so far; the one who counts up has written all else before */
	int err;
	struct ff_failure failure;
	bool ended;	   /* the take has nothing more to ask */
	bool stopped;	   /* something is, or may be, frozen */
	unsigned int noio; /* how allocations were before */
	bool escaped;	   /* the take said nothing for so long that all was undone */
	bool gone;	   /* the thread is through */
};

/* ---- in the thread ----------------------------------------------------- */

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

static int ff_disk_do_load(struct ff_disk *disk)
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

static int ff_disk_do_sync(struct ff_disk *disk)
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

static int ff_disk_do_freeze(struct ff_disk *disk)
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

static int ff_disk_do_switch(struct ff_disk *disk)
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
static int ff_disk_do_thaw(struct ff_disk *disk)
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

static void ff_disk_free(struct kref *refs)
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

static int ff_disk_thread(void *data)
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

/* ---- in the take ------------------------------------------------------- */

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
		if ((fs->user.flags & ~FF_FS_READ_ONLY) || fs->user.reserved)
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
		disk->device_count = index + 1;
	}
	return 0;
}

static int ff_disk_read(struct ff_snapshot *snap, struct ff_disk *disk)
{
	int err = ff_disk_read_filesystems(snap, disk);

	if (!err)
		err = ff_disk_read_devices(snap, disk);
	if (err || !disk->device_count)
		return err;
	err = ff_dm_open(&disk->dm, snap->take->dm_control);
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

void ff_disk_end(struct ff_snapshot *snap)
{
	struct ff_disk *disk = snap->disk;
	bool gone;

	if (!disk)
		return;
	snap->disk = NULL;
	WRITE_ONCE(disk->ended, true);
	wake_up_all(&disk->queue);
	gone = wait_event_timeout(disk->queue, smp_load_acquire(&disk->gone), msecs_to_jiffies(disk->deadline_ms));
	ff_gate_lower(&disk->gate);
	ff_disk_write_back(snap, disk);
	if (gone && disk->dm.user)
		vm_munmap(disk->dm.user, FF_DM_BYTES);
	kref_put(&disk->refs, ff_disk_free);
}
