// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "quiesce.h"

#include <linux/delay.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "compat.h"

/* For all threads together. One that is busy in user mode is seen there at the next tick. */
#define FF_QUIESCE_NS NSEC_PER_SEC

struct ff_watch {
	struct task_struct **tasks; /* references */
	u32 count;
	u32 limit;
};

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
				watch->tasks[watch->count++] = get_task_struct(task);
		}
	}
	rcu_read_unlock();
}

/*
 * False: not everybody was seen. Each thread is one user of the memory, and we are one; a reader of /proc is one as
 * well, but soon gone.
 */
static bool ff_watch_all(struct ff_watch *watch, struct ff_snapshot *snap, struct ff_space *space)
{
	int users = atomic_read(&space->mm->mm_users);

	watch->count = 0;
	watch->limit = users;
	watch->tasks = kvcalloc(watch->limit, sizeof(*watch->tasks), GFP_KERNEL);
	if (!watch->tasks)
		return false;
	ff_watch_threads(watch, snap, space);
	return watch->count + 1 >= users;
}

static bool ff_task_is_outside(struct task_struct *task, struct mm_struct *mm)
{
	if (READ_ONCE(task->mm) != mm)
		return true;
	if (!READ_ONCE(task->on_cpu) && READ_ONCE(task->__state) != TASK_RUNNING)
		return true;
	return !ff_task_is_worker(task) && ff_task_was_in_user_mode(task);
}

bool ff_quiesce(struct ff_snapshot *snap, struct ff_space *space)
{
	u64 until = ktime_get_ns() + FF_QUIESCE_NS;
	struct ff_watch watch = {};
	bool all;
	u32 index;

	do {
		all = ff_watch_all(&watch, snap, space);
		for (index = 0; index < watch.count; index++) {
			while (all && !ff_task_is_outside(watch.tasks[index], space->mm)) {
				all = ktime_get_ns() < until;
				usleep_range(50, 200);
			}
			put_task_struct(watch.tasks[index]);
		}
		kvfree(watch.tasks);
	} while (!all && ktime_get_ns() < until && !fatal_signal_pending(current));
	return all;
}
