// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "take.h"

#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>

#include "file.h"
#include "image.h"
#include "lazy.h"
#include "phases.h"
#include "shared.h"
#include "space.h"
#include "state.h"
#include "trace.h"
#include "track.h"

/* How often a take starts over: when a target calls execve() under it, or a sleeper ran and that was not to be. */
#define FF_TRIES 10

DEFINE_MUTEX(ff_take_lock); /* one stop at a time; guards ff_last_id */
static u64 ff_last_id;
static atomic_t ff_open = ATOMIC_INIT(0);

static u64 ff_instance_id; /* of this load of the module */

void ff_take_module_init(void)
{
	ff_instance_id = get_random_u64();
}

u64 ff_instance(void)
{
	return ff_instance_id;
}

u32 ff_open_snapshots(void)
{
	return atomic_read(&ff_open);
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
		if (thread->image.state)
			trace_freezeframe_task_still(snap->id, thread->task->pid, thread->task->tgid,
						     thread->image.state, thread->asked_ns, thread->still_ns);
	}
	for (index = 0; index < snap->space_count; index++) {
		struct ff_space *space = &snap->spaces[index];

		trace_freezeframe_mm_armed(snap->id, space->tgid, space->armed_pages, space->copied_pages,
					   space->arm_ns);
	}
}

void ff_snapshot_free(struct ff_snapshot *snap)
{
	u32 index;

	ff_state_free(snap);
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
	kvfree(snap->maps);
	vfree(snap->meta);
	kfree(snap);
	atomic_dec(&ff_open);
}

static struct ff_snapshot *ff_snapshot_new(struct ff_take *take, u32 try)
{
	struct ff_snapshot *snap = kzalloc(sizeof(*snap), GFP_KERNEL);

	if (!snap)
		return NULL;
	atomic_inc(&ff_open);
	snap->id = ++ff_last_id;
	snap->try = try;
	snap->take = take;
	take->id = snap->id;
	mutex_init(&snap->drain_lock);
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
	ff_state_free(snap);
	ff_trace_stop(snap);
	ff_trace_phases(snap, 0);
	snap->drain_begin_ns = ktime_get_ns();
	trace_freezeframe_phase(snap->id, FF_PHASE_DRAIN, FF_EDGE_BEGIN, snap->drain_begin_ns, 0);
	snap->take->image_bytes = ff_image_bytes(snap);
	snap->take->failure = FF_NO_FAILURE;
	snap->take = NULL;
}

static int ff_take_once(struct ff_take *take, u32 try, struct file **file)
{
	struct ff_snapshot *snap;
	u32 index;
	int err;

	snap = ff_snapshot_new(take, try);
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
	for (index = 0; index < snap->space_count; index++)
		ff_track_undo(snap, &snap->spaces[index]);
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
		take->state_ns = 0;
		take->pass_ns = 0;
		take->rest_ns = 0;
		memset(&take->counts, 0, sizeof(take->counts));
		memset(take->phases, 0, sizeof(take->phases));
		take->failure = FF_NO_FAILURE;
		err = ff_take_once(take, try, file);
		if (err != -EAGAIN)
			break;
	}
	mutex_unlock(&ff_take_lock);
	return err;
}
