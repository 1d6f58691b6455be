// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "phases.h"

#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>

#include "arm.h"
#include "disk.h"
#include "drain.h"
#include "image.h"
#include "lazy.h"
#include "pace.h"
#include "regs.h"
#include "shared.h"
#include "space.h"
#include "state.h"
#include "target.h"
#include "test.h"

/* Pages that lie in the LRU's batches look like pages in use, and are copied: 31 per CPU (6.12; 15 on 6.1). */
#define FF_SPARE_PER_CPU 32

static int ff_phase_begin(struct ff_snapshot *snap, enum ff_phase phase)
{
	struct ff_stamp *stamp = &snap->take->phases[phase];

	snap->take->failure.phase = phase;
	if (!stamp->begin_ns)
		stamp->begin_ns = ktime_get_ns();
	stamp->end_ns = 0;
	return ff_test_phase(snap, phase);
}

static void ff_phase_end(struct ff_snapshot *snap, enum ff_phase phase)
{
	snap->take->phases[phase].end_ns = ktime_get_ns();
}

/* Is there memory for all that may have to be copied, in the stop or by the targets' writes after it? */
static int ff_admit(struct ff_snapshot *snap)
{
	u64 want = ff_shared_expected(snap), have = max(si_mem_available(), 0l);
	u32 index;

	for (index = 0; index < snap->space_count; index++)
		want += snap->spaces[index].anon_pages;
	if (want <= have || (snap->take->flags & FF_TAKE_FORCE))
		return 0;
	snap->take->failure.bound = have << PAGE_SHIFT;
	return ff_fail(snap, -ENOMEM, FF_REASON_NO_ROOM, -1, want << PAGE_SHIFT);
}

static int ff_prepare(struct ff_snapshot *snap)
{
	struct ff_take *take = snap->take;
	u64 anon = 0;
	u32 index;
	int err;

	err = ff_phase_begin(snap, FF_PHASE_PREPARE);
	if (err)
		return err;
	if (take->size != sizeof(*take) || (take->flags & ~(FF_TAKE_STRICT | FF_TAKE_FORCE)) ||
	    take->arm > FF_ARM_PUD || take->freeze > FF_FREEZE_SIGNAL || take->reserved ||
	    (take->deadline_ms && take->deadline_ms > FF_DEADLINE_MAX_MS))
		return ff_fail(snap, -EINVAL, FF_REASON_BAD_ARGUMENT, -1, 0);
	err = ff_disk_open(snap);
	if (!err)
		err = ff_targets_resolve(snap);
	if (err)
		return err;
	for (index = 0; index < snap->space_count; index++) {
		err = ff_space_prepare(snap, &snap->spaces[index]);
		if (err)
			return err;
		/* Those of a lazily armed space wait in its tables. */
		if (!snap->spaces[index].lazy)
			anon += snap->spaces[index].anon_pages;
	}
	err = ff_shared_find(snap);
	if (!err)
		err = ff_admit(snap);
	if (!err)
		err = ff_shared_prepare(snap);
	if (err)
		return err;
	/* A twentieth more than counted: the targets go on allocating until they are still. */
	anon += anon / 20 + PTRS_PER_PTE;
	err = ff_pages_reserve(&snap->pages, anon, min_t(u64, anon, 4096 + anon / 8));
	if (!err)
		err = ff_pages_reserve_spare(&snap->pages, FF_SPARE_PER_CPU * num_online_cpus());
	if (!err)
		err = ff_freezer_prepare(snap);
	if (err)
		return ff_fail(snap, err, FF_REASON_NO_MEMORY, -1, 0);
	err = ff_state_prepare(snap);
	if (err)
		return err;
	/* Last, so that little is dirtied again until it freezes. */
	err = ff_disk_prepare(snap);
	if (err)
		return err;
	ff_phase_end(snap, FF_PHASE_PREPARE);
	return 0;
}

/* Its writers stand still from here on. */
static int ff_freeze_fs(struct ff_snapshot *snap)
{
	int err;

	/* Without filesystems, it is where the tests come between the first look at the memory and the stop. */
	if (!snap->disk)
		return ff_test_phase(snap, FF_PHASE_FREEZE_FS);
	err = ff_phase_begin(snap, FF_PHASE_FREEZE_FS);
	if (err)
		return err;
	err = ff_disk_freeze(snap);
	if (err)
		return err;
	ff_phase_end(snap, FF_PHASE_FREEZE_FS);
	return 0;
}

static int ff_freeze_tasks(struct ff_snapshot *snap)
{
	u32 ms = snap->take->deadline_ms ?: FF_DEADLINE_DEFAULT_MS;
	int err;

	snap->take->failure.phase = FF_PHASE_FREEZE_TASKS;
	ff_state_rehearse(snap);
	ff_freezer_rehearse(snap);
	ff_spaces_rehearse(snap);
	snap->freezer.deadline = jiffies + msecs_to_jiffies(ms);
	err = ff_spaces_lock(snap);
	if (err)
		return err;
	snap->freezer.deadline = jiffies + msecs_to_jiffies(ms);
	err = ff_freezer_freeze(snap);
	if (err)
		return err;
	/* The hook of the tests comes where everybody is still. */
	err = ff_phase_begin(snap, FF_PHASE_FREEZE_TASKS);
	if (err)
		return err;
	err = ff_targets_recheck(snap);
	if (err)
		return err;
	snap->instant_ns = ktime_get_ns();
	snap->instant_realtime_ns = ktime_get_real_ns();
	ff_phase_end(snap, FF_PHASE_FREEZE_TASKS);
	return 0;
}

static int ff_arm(struct ff_snapshot *snap)
{
	u32 index;
	int err;

	err = ff_phase_begin(snap, FF_PHASE_ARM);
	ff_freezer_note_workers(snap);
	for (index = 0; index < snap->space_count && !err; index++)
		err = ff_space_note(snap, &snap->spaces[index]);
	if (!err)
		err = ff_shared_stop(snap);
	if (!err)
		err = ff_spaces_arm(snap);
	if (!err)
		err = ff_state_stop(snap);
	if (!err)
		err = ff_regs_copy(snap);
	if (!err)
		err = ff_freezer_check(snap);
	if (!err && fatal_signal_pending(current))
		err = ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
	if (err)
		return err;
	ff_phase_end(snap, FF_PHASE_ARM);
	return 0;
}

static int ff_thaw_tasks(struct ff_snapshot *snap)
{
	int err = ff_phase_begin(snap, FF_PHASE_THAW_TASKS);

	if (err)
		return err;
	/* First the locks, or the threads would run into them. */
	ff_spaces_unlock(snap);
	ff_freezer_thaw(snap);
	ff_phase_end(snap, FF_PHASE_THAW_TASKS);
	if (READ_ONCE(snap->freezer.escaped))
		return ff_fail(snap, -ETIMEDOUT, FF_REASON_DEADLINE, -1, 0);
	snap->take->window_ns =
		snap->take->phases[FF_PHASE_THAW_TASKS].end_ns - snap->take->phases[FF_PHASE_FREEZE_TASKS].begin_ns;
	return 0;
}

static int ff_switch_fs(struct ff_snapshot *snap)
{
	int err;

	/* Nobody would be there to merge it back. */
	if (fatal_signal_pending(current))
		return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
	err = ff_phase_begin(snap, FF_PHASE_SWITCH_FS);
	if (!err)
		err = ff_disk_switch(snap);
	if (err)
		return err;
	ff_phase_end(snap, FF_PHASE_SWITCH_FS);
	return 0;
}

static int ff_thaw_fs(struct ff_snapshot *snap)
{
	int err = ff_phase_begin(snap, FF_PHASE_THAW_FS);

	if (!err)
		err = ff_disk_thaw(snap);
	if (err)
		return err;
	ff_phase_end(snap, FF_PHASE_THAW_FS);
	snap->take->write_window_ns =
		snap->take->phases[FF_PHASE_THAW_FS].end_ns - snap->take->phases[FF_PHASE_FREEZE_FS].begin_ns;
	ff_disk_end(snap);
	return 0;
}

/* Takes the references and makes the copies that the stop left for later, and puts them in order. */
static int ff_finalize_lazy(struct ff_snapshot *snap)
{
	struct ff_pace pace;
	u32 index;
	int err = 0;

	ff_pace_begin(&pace);
	for (index = 0; index < snap->space_count && !err; index++) {
		if (snap->spaces[index].lazy)
			err = ff_lazy_finalize(snap, &snap->spaces[index], &pace);
	}
	if (!err)
		err = ff_shared_finalize(snap, &pace);
	ff_pace_end(&pace);
	snap->take->pass_ns = pace.work_ns;
	snap->take->rest_ns = pace.rest_ns;
	if (err)
		return err;
	ff_lazy_end(snap);
	ff_shared_count(snap);
	if (snap->space_count > 1 || !list_empty(&snap->shared)) {
		err = ff_pages_share(&snap->pages);
		if (err)
			return ff_fail(snap, err, FF_REASON_NO_MEMORY, -1, 0);
	}
	for (index = 0; index < snap->space_count && !err; index++) {
		struct ff_space *space = &snap->spaces[index];

		err = ff_shared_collect(snap, space);
		if (err || !space->lazy)
			continue;
		snap->take->stall_ns = max(snap->take->stall_ns, space->lazy->stall_ns);
		err = ff_lazy_collect(snap, space);
		ff_lazy_free(space->lazy);
		space->lazy = NULL;
	}
	ff_pages_unshare(&snap->pages);
	ff_shared_free(snap);
	return err;
}

static int ff_finalize(struct ff_snapshot *snap)
{
	int err;

	err = ff_phase_begin(snap, FF_PHASE_FINALIZE);
	if (err)
		return err;
	/* Before the work that would do it is taken back. */
	ff_regs_finish_all(snap);
	ff_freezer_close(snap);
	ff_pages_drop_spare(&snap->pages);
	/* First of all: until then, what the targets close stays open. */
	err = ff_state_resolve(snap);
	if (!err)
		err = ff_finalize_lazy(snap);
	if (err)
		return err;
	err = ff_image_build(snap);
	if (err)
		return err;
	err = ff_drain_prepare(snap);
	if (err)
		return ff_fail(snap, err, FF_REASON_NO_MEMORY, -1, 0);
	ff_phase_end(snap, FF_PHASE_FINALIZE);
	return 0;
}

/* The targets are stopped, armed, and let go. */
static int ff_stop(struct ff_snapshot *snap)
{
	int err;

	err = ff_freeze_tasks(snap);
	if (err)
		goto err_thaw;
	err = ff_arm(snap);
	if (err)
		goto err_thaw;
	err = ff_thaw_tasks(snap);
	if (err)
		goto err_thaw;
	return 0;

err_thaw:
	ff_freezer_thaw(snap);
	ff_spaces_unlock(snap);
	return err;
}

/*
 * The targets may go before the switch: with the filesystems frozen, what they write gets no further than the page
 * cache, or waits.
 */
static int ff_instant(struct ff_snapshot *snap)
{
	unsigned int nofs;
	int err;

	/*
	 * Memory must not be waited for that a frozen filesystem has to give. What goes to swap may be: no device with
	 * swap is switched, and a target at its cgroup's limit would be killed for what it has there.
	 */
	nofs = memalloc_nofs_save();
	err = ff_freeze_fs(snap);
	if (!err)
		err = ff_stop(snap);
	if (!err && snap->disk && snap->take->switch_count)
		err = ff_switch_fs(snap);
	if (!err && snap->disk)
		err = ff_thaw_fs(snap);
	if (err)
		ff_disk_end(snap);
	memalloc_nofs_restore(nofs);
	return err;
}

int ff_take_phases(struct ff_snapshot *snap)
{
	int err;

	err = ff_prepare(snap);
	if (err)
		goto err_disk;
	err = ff_instant(snap);
	if (err)
		goto err_disk;
	err = ff_finalize(snap);
	if (err)
		goto err_disk;
	return 0;

err_disk:
	ff_disk_end(snap);
	return err;
}
