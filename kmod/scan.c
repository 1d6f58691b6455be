// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "scan.h"

#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>

#include "compat.h"
#include "regs.h"
#include "snapshot.h"

/* The snapshot whose threads are being frozen. At most one: takes are serialized. */
static struct ff_snapshot *ff_freezing;
static DEFINE_SPINLOCK(ff_freezing_lock); /* guards ff_freezing; outside freezer.lock */
static struct tracepoint *ff_newtask;

/* Each with room for its registers. */
int ff_scan_reserve(struct ff_freezer *freezer, u32 count)
{
	while (count--) {
		struct ff_thread *thread = kzalloc(sizeof(*thread), GFP_KERNEL);

		if (!thread)
			return -ENOMEM;
		if (ff_regs_reserve(thread)) {
			kfree(thread);
			return -ENOMEM;
		}
		spin_lock(&freezer->lock);
		list_add(&thread->link, &freezer->spare);
		spin_unlock(&freezer->lock);
	}
	return 0;
}

static bool ff_scan_knows(struct ff_freezer *freezer, struct task_struct *task)
{
	struct ff_thread *thread;

	hash_for_each_possible(freezer->known, thread, hash, (unsigned long)task) {
		if (thread->task == task)
			return true;
	}
	return false;
}

/* Notes a thread and asks it to park. Returns whether it was new. Under freezer.lock. */
static bool ff_scan_ask(struct ff_freezer *freezer, struct task_struct *task, u32 process)
{
	struct ff_thread *thread;

	if (ff_scan_knows(freezer, task))
		return false;
	thread = list_first_entry_or_null(&freezer->spare, struct ff_thread, link);
	if (thread)
		list_del(&thread->link);
	else
		thread = kzalloc(sizeof(*thread), GFP_ATOMIC | __GFP_NOWARN);
	if (!thread) {
		freezer->short_of_memory = true;
		return false;
	}
	spin_lock_init(&thread->regs_lock);
	thread->freezer = freezer;
	thread->task = get_task_struct(task);
	thread->process = process;
	thread->asked_ns = freezer->asked_ns;
	list_add_tail(&thread->link, &freezer->threads);
	hash_add(freezer->known, &thread->hash, (unsigned long)task);
	freezer->thread_count++;
	if (ff_task_is_worker(task)) {
		thread->state = FF_THREAD_KERNEL;
		thread->still_ns = thread->asked_ns;
		return true;
	}
	init_task_work(&thread->work, ff_thread_park);
	atomic_inc(&freezer->busy);
	if (task_work_add(task, &thread->work, freezer->mode == FF_FREEZE_SIGNAL ? TWA_SIGNAL : TWA_RESUME)) {
		atomic_dec(&freezer->busy);
		thread->gone = true;
	} else {
		thread->queued = true;
	}
	return true;
}

static s32 ff_snapshot_find_mm(struct ff_snapshot *snap, struct mm_struct *mm)
{
	u32 index;

	for (index = 0; index < snap->process_count; index++) {
		if (snap->processes[index].space->mm == mm)
			return index;
	}
	return -1;
}

/* Asks the threads of one process, if it has the memory of process @index. Under rcu_read_lock. */
static u32 ff_scan_process(struct ff_snapshot *snap, struct task_struct *process, u32 index)
{
	struct mm_struct *mm = snap->processes[index].space->mm;
	struct task_struct *task;
	u32 fresh = 0;

	for_each_thread(process, task) {
		if (READ_ONCE(task->mm) != mm)
			continue;
		spin_lock(&snap->freezer.lock);
		fresh += ff_scan_ask(&snap->freezer, task, index);
		spin_unlock(&snap->freezer.lock);
	}
	return fresh;
}

/* Threads of other processes that share a target's memory (vfork, CLONE_VM) are found by it. Under rcu_read_lock. */
static u32 ff_scan_others(struct ff_snapshot *snap)
{
	struct task_struct *process, *task;
	u32 fresh = 0;

	for_each_process(process) {
		s32 index = -1;

		for_each_thread(process, task) {
			struct mm_struct *mm = READ_ONCE(task->mm);

			if (!mm)
				continue;
			index = ff_snapshot_find_mm(snap, mm);
			break;
		}
		if (index >= 0)
			fresh += ff_scan_process(snap, process, index);
	}
	return fresh;
}

/*
 * May somebody have a target's memory who is not known? Each thread counts as one user of it, and so do we. The users
 * are read first: a thread that exits between the two looks makes us search for nobody, not miss somebody.
 */
static bool ff_scan_misses_users(struct ff_snapshot *snap)
{
	struct ff_thread *thread;
	long users = 0;
	u32 index;

	for (index = 0; index < snap->space_count; index++)
		users += atomic_read(&snap->spaces[index].mm->mm_users) - 1;
	smp_rmb();
	spin_lock(&snap->freezer.lock);
	list_for_each_entry(thread, &snap->freezer.threads, link)
		users -= READ_ONCE(thread->task->mm) == snap->processes[thread->process].space->mm;
	spin_unlock(&snap->freezer.lock);
	return users > 0;
}

/*
 * Asks every thread that is not known yet; returns how many there were. Looking at every process of the machine takes
 * its time, in the window, and is hardly ever needed.
 */
u32 ff_scan(struct ff_snapshot *snap)
{
	u32 index, fresh = 0;

	snap->freezer.asked_ns = ktime_get_ns();
	rcu_read_lock();
	for (index = 0; index < snap->process_count; index++)
		fresh += ff_scan_process(snap, snap->processes[index].leader, index);
	if (ff_scan_misses_users(snap))
		fresh += ff_scan_others(snap);
	rcu_read_unlock();
	return fresh;
}

void ff_scan_rehearse(struct ff_snapshot *snap)
{
	struct task_struct *task;
	u32 index;

	rcu_read_lock();
	for (index = 0; index < snap->process_count; index++) {
		for_each_thread(snap->processes[index].leader, task) {
			spin_lock(&snap->freezer.lock);
			if (!ff_scan_knows(&snap->freezer, task) && !ff_task_is_worker(task))
				READ_ONCE(task->task_works);
			spin_unlock(&snap->freezer.lock);
		}
	}
	ff_scan_misses_users(snap);
	rcu_read_unlock();
}

/* A new task that shares a target's memory is asked before it runs for the first time. */
static void ff_scan_on_newtask(void *data, struct task_struct *task, unsigned long flags)
{
	s32 index;

	if (likely(!READ_ONCE(ff_freezing)) || !(flags & CLONE_VM))
		return;
	spin_lock(&ff_freezing_lock);
	if (ff_freezing && task->mm) {
		index = ff_snapshot_find_mm(ff_freezing, task->mm);
		if (index >= 0) {
			spin_lock(&ff_freezing->freezer.lock);
			ff_scan_ask(&ff_freezing->freezer, task, index);
			spin_unlock(&ff_freezing->freezer.lock);
		}
	}
	spin_unlock(&ff_freezing_lock);
}

void ff_scan_begin(struct ff_snapshot *snap)
{
	snap->freezer.asked_ns = ktime_get_ns();
	spin_lock(&ff_freezing_lock);
	WRITE_ONCE(ff_freezing, snap);
	spin_unlock(&ff_freezing_lock);
}

void ff_scan_end(void)
{
	spin_lock(&ff_freezing_lock);
	WRITE_ONCE(ff_freezing, NULL);
	spin_unlock(&ff_freezing_lock);
}

static void ff_scan_find_newtask(struct tracepoint *tracepoint, void *found)
{
	if (!strcmp(tracepoint->name, "task_newtask"))
		*(struct tracepoint **)found = tracepoint;
}

int ff_scan_module_init(void)
{
	for_each_kernel_tracepoint(ff_scan_find_newtask, &ff_newtask);
	if (!ff_newtask) {
		pr_err("freezeframe: this kernel has no tracepoint task_newtask, and without it a clone() could escape "
		       "the freeze\n");
		return -ENOENT;
	}
	return tracepoint_probe_register(ff_newtask, ff_scan_on_newtask, NULL);
}

void ff_scan_module_exit(void)
{
	tracepoint_probe_unregister(ff_newtask, ff_scan_on_newtask, NULL);
	tracepoint_synchronize_unregister();
	/* A thread may still be on the last instructions of ff_thread_park(). */
	synchronize_rcu_tasks();
}
