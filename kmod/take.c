// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "take.h"

#include <linux/file.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "arm.h"
#include "disk.h"
#include "file.h"
#include "image.h"
#include "lazy.h"
#include "pace.h"
#include "regs.h"
#include "shared.h"
#include "space.h"
#include "target.h"
#include "test.h"
#include "trace.h"

/* How often a take starts over: when a target calls execve() under it, or a sleeper ran and that was not to be. */
#define FF_TRIES 10

/* Pages that lie in the LRU's batches look like pages in use, and are copied: 31 per CPU (6.12; 15 on 6.1). */
#define FF_SPARE_PER_CPU 32

DEFINE_MUTEX(ff_take_lock); /* one stop at a time; guards ff_last_id */
static u64 ff_last_id;
static atomic_t ff_open = ATOMIC_INIT(0);

u32 ff_open_snapshots(void)
{
	return atomic_read(&ff_open);
}

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

/* Tells the tracers of the phases that ran; the one that failed with its error. */
static void ff_trace_phases(struct ff_snapshot *snap, int err)
{
	u32 phase;

	for (phase = FF_PHASE_PREPARE; phase <= FF_PHASE_FINALIZE; phase++) {
		struct ff_stamp *stamp = &snap->take->phases[phase];
		bool failed = err && phase == snap->take->failure.phase;

		if (!stamp->begin_ns)
			continue;
		if (!stamp->end_ns)
			stamp->end_ns = ktime_get_ns();
		trace_freezeframe_phase(snap->id, phase, FF_EDGE_BEGIN, stamp->begin_ns, 0);
		trace_freezeframe_phase(snap->id, phase, FF_EDGE_END, stamp->end_ns, failed ? err : 0);
	}
}

static void ff_trace_stop(struct ff_snapshot *snap)
{
	struct ff_thread *thread;
	u32 index;

	list_for_each_entry(thread, &snap->freezer.threads, link) {
		if (thread->state)
			trace_freezeframe_task_still(snap->id, thread->task->pid, thread->task->tgid, thread->state,
						     thread->asked_ns, thread->still_ns);
	}
	for (index = 0; index < snap->space_count; index++) {
		struct ff_space *space = &snap->spaces[index];

		trace_freezeframe_mm_armed(snap->id, space->tgid, space->armed_pages, space->copied_pages,
					   space->arm_ns);
	}
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
	int err = ff_phase_begin(snap, FF_PHASE_SWITCH_FS);

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
	err = ff_finalize_lazy(snap);
	if (err)
		return err;
	err = ff_image_build(snap);
	if (err)
		return err;
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
	unsigned int noio;
	int err;

	/* Memory must not be waited for that cannot be written back. */
	noio = memalloc_noio_save();
	err = ff_freeze_fs(snap);
	if (!err)
		err = ff_stop(snap);
	if (!err && snap->disk && snap->take->switch_count)
		err = ff_switch_fs(snap);
	if (!err && snap->disk)
		err = ff_thaw_fs(snap);
	if (err)
		ff_disk_end(snap);
	memalloc_noio_restore(noio);
	return err;
}

static int ff_take_phases(struct ff_snapshot *snap)
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

void ff_snapshot_free(struct ff_snapshot *snap)
{
	u32 index;

	ff_pages_free(&snap->pages);
	ff_freezer_free(snap);
	ff_lazy_end(snap);
	ff_shared_free(snap);
	for (index = 0; index < snap->space_count; index++)
		ff_space_free(&snap->spaces[index]);
	kvfree(snap->spaces);
	for (index = 0; index < snap->process_count; index++)
		put_task_struct(snap->processes[index].leader);
	kvfree(snap->processes);
	kvfree(snap->meta);
	kfree(snap);
	atomic_dec(&ff_open);
}

static struct ff_snapshot *ff_snapshot_new(struct ff_take *take)
{
	struct ff_snapshot *snap = kzalloc(sizeof(*snap), GFP_KERNEL);

	if (!snap)
		return NULL;
	atomic_inc(&ff_open);
	snap->id = ++ff_last_id;
	snap->take = take;
	take->id = snap->id;
	ff_pages_init(&snap->pages);
	INIT_LIST_HEAD(&snap->shared);
	ff_freezer_open(snap);
	return snap;
}

/* What nobody needs once the image is laid out; the pages and the tables stay. */
static void ff_snapshot_settle(struct ff_snapshot *snap)
{
	u32 index;

	for (index = 0; index < snap->space_count; index++) {
		mmput(snap->spaces[index].mm);
		snap->spaces[index].mm = NULL;
	}
	ff_trace_stop(snap);
	ff_trace_phases(snap, 0);
	snap->drain_begin_ns = ktime_get_ns();
	trace_freezeframe_phase(snap->id, FF_PHASE_DRAIN, FF_EDGE_BEGIN, snap->drain_begin_ns, 0);
	snap->take->image_bytes = ff_image_bytes(snap);
	snap->take->failure = FF_NO_FAILURE;
	snap->take = NULL;
}

static int ff_take_once(struct ff_take *take, struct file **file)
{
	struct ff_snapshot *snap;
	int err;

	snap = ff_snapshot_new(take);
	if (!snap) {
		take->failure.reason = FF_REASON_NO_MEMORY;
		return -ENOMEM;
	}
	err = ff_take_phases(snap);
	if (err)
		goto err_close;
	*file = ff_file_new(snap);
	if (IS_ERR(*file)) {
		err = ff_fail(snap, PTR_ERR(*file), FF_REASON_NO_MEMORY, -1, 0);
		goto err_close;
	}
	ff_snapshot_settle(snap);
	return 0;

err_close:
	ff_freezer_close(snap);
	ff_trace_stop(snap);
	ff_trace_phases(snap, err);
	ff_snapshot_free(snap);
	return err;
}

int ff_take(struct ff_take *take, struct file **file)
{
	u32 try;
	int err;

	if (mutex_lock_killable(&ff_take_lock)) {
		take->failure.reason = FF_REASON_INTERRUPTED;
		return -EINTR;
	}
	for (try = 0; try < FF_TRIES; try++) {
		take->id = 0;
		take->window_ns = 0;
		take->write_window_ns = 0;
		take->stall_ns = 0;
		take->shared_ns = 0;
		take->pass_ns = 0;
		take->rest_ns = 0;
		memset(&take->counts, 0, sizeof(take->counts));
		memset(take->phases, 0, sizeof(take->phases));
		take->failure = FF_NO_FAILURE;
		err = ff_take_once(take, file);
		if (err != -EAGAIN)
			break;
	}
	mutex_unlock(&ff_take_lock);
	return err;
}
