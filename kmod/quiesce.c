// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "quiesce.h"

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "compat.h"
#include "taskwork.h"

/* For all threads together. It takes as long as the longest system call that does not sleep. */
#define FF_QUIESCE_NS NSEC_PER_SEC

struct ff_visit {
	struct callback_head work;
	struct ff_watch *watch;
	struct task_struct *task; /* reference */
	bool queued;
	bool passed; /* written by the thread itself, on its way to user mode */
};

struct ff_watch {
	struct ff_visit *visits;
	u32 count;
	u32 limit;
	atomic_t busy;		/* works queued and neither run nor cancelled, + 1 */
	struct completion idle; /* busy is 0 */
};

/* ---- on the thread that is watched ------------------------------------- */

static void ff_watch_done(struct ff_watch *watch)
{
	if (atomic_dec_and_test(&watch->busy))
		complete(&watch->idle);
}

static void ff_visit_pass(struct callback_head *work)
{
	struct ff_visit *visit = container_of(work, struct ff_visit, work);

	WRITE_ONCE(visit->passed, true);
	ff_watch_done(visit->watch);
}

/* ---- watching ---------------------------------------------------------- */

static void ff_watch_threads(struct ff_watch *watch, struct ff_snapshot *snap, struct ff_space *space)
{
	struct task_struct *task;
	u32 index;

	rcu_read_lock();
	for (index = 0; index < snap->process_count; index++) {
		if (snap->processes[index].space != space)
			continue;
		for_each_thread(snap->processes[index].leader, task) {
			if (READ_ONCE(task->mm) == space->mm && watch->count < watch->limit)
				watch->visits[watch->count++].task = get_task_struct(task);
		}
	}
	rcu_read_unlock();
}

/*
 * False: not everybody was seen. Each thread is one user of the memory, and we are one; a reader of /proc is one as
 * well, but soon gone.
 */
static bool ff_watch_begin(struct ff_watch *watch, struct ff_snapshot *snap, struct ff_space *space)
{
	int users = atomic_read(&space->mm->mm_users);

	watch->count = 0;
	watch->limit = users;
	atomic_set(&watch->busy, 1);
	init_completion(&watch->idle);
	watch->visits = kvcalloc(watch->limit, sizeof(*watch->visits), GFP_KERNEL);
	if (!watch->visits)
		return false;
	ff_watch_threads(watch, snap, space);
	return watch->count + 1 >= users;
}

static bool ff_visit_is_over(struct ff_visit *visit, struct mm_struct *mm)
{
	struct task_struct *task = visit->task;

	if (READ_ONCE(visit->passed) || READ_ONCE(task->mm) != mm)
		return true;
	if (!READ_ONCE(task->on_cpu) && READ_ONCE(task->__state) != TASK_RUNNING)
		return true;
	return !ff_task_is_worker(task) && ff_task_was_in_user_mode(task);
}

/*
 * By looks alone, one that does nothing but system calls might never be met outside of them. Whoever is exiting takes
 * no work any more, and soon has no memory either.
 */
static void ff_visit_ask(struct ff_watch *watch, struct ff_visit *visit)
{
	if (ff_task_is_worker(visit->task))
		return;
	visit->watch = watch;
	init_task_work(&visit->work, ff_visit_pass);
	atomic_inc(&watch->busy);
	visit->queued = !task_work_add(visit->task, &visit->work, TWA_RESUME);
	if (!visit->queued)
		atomic_dec(&watch->busy);
}

static bool ff_watch_await(struct ff_watch *watch, struct mm_struct *mm, u64 until)
{
	u32 index;

	for (index = 0; index < watch->count; index++) {
		if (!ff_visit_is_over(&watch->visits[index], mm))
			ff_visit_ask(watch, &watch->visits[index]);
	}
	for (index = 0; index < watch->count; index++) {
		while (!ff_visit_is_over(&watch->visits[index], mm)) {
			if (ktime_get_ns() >= until || fatal_signal_pending(current))
				return false;
			usleep_range(20, 100);
		}
	}
	return true;
}

static void ff_watch_end(struct ff_watch *watch)
{
	u32 index;

	for (index = 0; index < watch->count; index++) {
		struct ff_visit *visit = &watch->visits[index];

		if (visit->queued && ff_task_work_cancel(visit->task, &visit->work))
			atomic_dec(&watch->busy);
	}
	/* What could not be cancelled is running, and about to leave. */
	ff_watch_done(watch);
	wait_for_completion(&watch->idle);
	for (index = 0; index < watch->count; index++)
		put_task_struct(watch->visits[index].task);
	kvfree(watch->visits);
}

bool ff_quiesce(struct ff_snapshot *snap, struct ff_space *space)
{
	u64 until = ktime_get_ns() + FF_QUIESCE_NS;
	struct ff_watch watch;

	for (;;) {
		bool all = ff_watch_begin(&watch, snap, space) && ff_watch_await(&watch, space->mm, until);

		ff_watch_end(&watch);
		if (all || ktime_get_ns() >= until || fatal_signal_pending(current))
			return all;
		usleep_range(50, 200);
	}
}
