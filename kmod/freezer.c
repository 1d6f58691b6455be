// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "freezer.h"

#include <linux/delay.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "compat.h"
#include "quiesce.h"
#include "regs.h"
#include "scan.h"
#include "snapshot.h"
#include "taskwork.h"
#include "test.h"

/*
 * How long to wait for running threads without sleeping. They take microseconds, where nobody takes their processor
 * away (a hypervisor may); the scheduler takes 50 us to bring a sleeper back, and milliseconds where many are busy.
 */
#define FF_FREEZE_SPIN_NS (2 * NSEC_PER_MSEC)

/*
 * How long a parked thread keeps its processor, where nobody else wants it. One that sleeps is late by the time that it
 * takes to wake its processor up, which may be longer than the window; that is why KVM polls for halted processors,
 * too.
 */
#define FF_PARK_SPIN_NS (2 * NSEC_PER_MSEC)

/* ---- on the thread that is frozen -------------------------------------- */

static void ff_freezer_done(struct ff_freezer *freezer)
{
	if (atomic_dec_and_test(&freezer->busy))
		complete(&freezer->idle);
}

static void ff_thread_spin(const struct ff_thread *thread)
{
	u64 until = thread->still_ns + FF_PARK_SPIN_NS;

	while (!READ_ONCE(thread->freezer->thawed) && single_task_running() && !need_resched() &&
	       ktime_get_ns() < until)
		cpu_relax();
}

void ff_thread_park(struct callback_head *work)
{
	struct ff_thread *thread = container_of(work, struct ff_thread, work);
	struct ff_freezer *freezer = thread->freezer;
	DEFINE_WAIT(wait);

	/* Also run by exit_task_work(): a thread that exits must not wait for anybody. */
	if (!(current->flags & PF_EXITING) && !READ_ONCE(freezer->thawed)) {
		thread->still_ns = ktime_get_ns();
		if (ff_regs_park(thread))
			ff_thread_spin(thread);
		for (;;) {
			long left = (long)(READ_ONCE(freezer->deadline) - jiffies);

			/* Not killable: a killed target leaves with the others, at most a deadline later. */
			prepare_to_wait(&freezer->parking, &wait, TASK_UNINTERRUPTIBLE);
			if (READ_ONCE(freezer->thawed))
				break;
			if (left <= 0) {
				WRITE_ONCE(freezer->escaped, true);
				break;
			}
			schedule_timeout(left);
		}
		finish_wait(&freezer->parking, &wait);
	}
	ff_regs_finish(thread);
	ff_freezer_done(freezer);
}

/* ---- waiting until they are still -------------------------------------- */

/*
 * Preempted in user mode: the way back leads past the work, and what is left of the kernel's work before that writes to
 * no user memory. A page fault does, but not now: we hold mmap_lock. Not for those who die: their way leads past
 * nothing.
 */
static bool ff_thread_is_preempted(struct task_struct *task)
{
	return !(READ_ONCE(task->flags) & PF_EXITING) && !(READ_ONCE(task->signal->flags) & SIGNAL_GROUP_EXIT) &&
	       !fatal_signal_pending(task) && ff_task_was_in_user_mode(task);
}

static bool ff_thread_is_still(struct ff_thread *thread, struct mm_struct *mm, u64 now)
{
	struct task_struct *task = thread->task;

	if (thread->state || thread->gone)
		return true;
	if (smp_load_acquire(&thread->parked)) {
		/* Off its CPU its registers, the FPU's too, are all in memory. On it, it copies them itself. */
		if (!thread->regs_own && READ_ONCE(task->on_cpu))
			return false;
		thread->state = FF_THREAD_PARKED;
		return true;
	}
	if (READ_ONCE(task->mm) != mm) {
		thread->gone = true;
		return true;
	}
	smp_mb(); /* the work was queued before we look whether it sleeps */
	if (READ_ONCE(task->on_cpu))
		return false;
	if (READ_ONCE(task->__state) == TASK_RUNNING || ff_task_queued(task)) {
		if (thread->freezer->mode != FF_FREEZE_IPI || !ff_thread_is_preempted(task))
			return false;
		thread->still_ns = now;
		thread->state = FF_THREAD_PARKED;
		return true;
	}
	if (thread->freezer->mode == FF_FREEZE_SIGNAL && (READ_ONCE(task->__state) & TASK_INTERRUPTIBLE))
		return false; /* about to wake up */
	thread->switches = task->nvcsw + task->nivcsw;
	thread->still_ns = now;
	thread->state = FF_THREAD_ASLEEP;
	return true;
}

static struct ff_thread *ff_freezer_first_running(struct ff_snapshot *snap)
{
	struct ff_thread *thread, *running = NULL;
	u64 now = ktime_get_ns();

	spin_lock(&snap->freezer.lock);
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		if (!ff_thread_is_still(thread, snap->processes[thread->process].space->mm, now)) {
			running = thread;
			break;
		}
	}
	spin_unlock(&snap->freezer.lock);
	return running;
}

int ff_freezer_prepare(struct ff_snapshot *snap)
{
	struct ff_freezer *freezer = &snap->freezer;
	u32 index, threads = 16;

	freezer->mode = snap->take->freeze ?: FF_FREEZE_IPI;
	for (index = 0; index < snap->process_count; index++)
		threads += get_nr_threads(snap->processes[index].leader) + 4;
	return ff_scan_reserve(freezer, threads);
}

static void ff_freezer_nudge(void *unused)
{
}

/*
 * When this returns, no processor is in user mode with a target: the interrupt's way back leads past the work. Who is
 * on none now will find the work on the way to user mode. Takes are serialized, so one mask is enough.
 */
static void ff_freezer_interrupt(struct ff_snapshot *snap)
{
	static struct cpumask busy;
	struct ff_thread *thread;

	cpumask_clear(&busy);
	smp_mb(); /* the work was queued before we look who is on a processor */
	spin_lock(&snap->freezer.lock);
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		if (READ_ONCE(thread->task->on_cpu))
			cpumask_set_cpu(task_cpu(thread->task), &busy);
	}
	spin_unlock(&snap->freezer.lock);
	on_each_cpu_mask(&busy, ff_freezer_nudge, NULL, 1);
}

/*
 * Those who are on a processor are on their way: spinning for them is shorter than a sleep. The others wait for a
 * processor, which may be ours.
 */
static void ff_freezer_await(struct ff_snapshot *snap)
{
	u64 until = ktime_get_ns() + FF_FREEZE_SPIN_NS;
	struct ff_thread *running;

	while ((running = ff_freezer_first_running(snap)) && time_before(jiffies, snap->freezer.deadline) &&
	       !fatal_signal_pending(current)) {
		if (snap->freezer.mode == FF_FREEZE_IPI && READ_ONCE(running->task->on_cpu) && ktime_get_ns() < until)
			cpu_relax();
		else
			usleep_range(10, 30);
	}
}

static void ff_freezer_rehearse_work(struct callback_head *work)
{
}

void ff_freezer_rehearse(struct ff_snapshot *snap)
{
	struct ff_freezer *freezer = &snap->freezer;
	struct callback_head work;

	init_task_work(&work, ff_freezer_rehearse_work);
	if (!task_work_add(current, &work, TWA_RESUME))
		ff_task_work_cancel(current, &work);
	ff_scan_rehearse(snap);
	/* There are no threads yet. */
	ff_freezer_interrupt(snap);
	ff_freezer_first_running(snap);
	if (!list_empty(&freezer->spare))
		ff_regs_rehearse(list_first_entry(&freezer->spare, struct ff_thread, link));
	wake_up_all(&freezer->parking);
}

void ff_freezer_open(struct ff_snapshot *snap)
{
	struct ff_freezer *freezer = &snap->freezer;

	spin_lock_init(&freezer->lock);
	INIT_LIST_HEAD(&freezer->threads);
	INIT_LIST_HEAD(&freezer->spare);
	hash_init(freezer->known);
	init_waitqueue_head(&freezer->parking);
	init_completion(&freezer->idle);
	atomic_set(&freezer->busy, 1);
}

int ff_freezer_freeze(struct ff_snapshot *snap)
{
	struct ff_freezer *freezer = &snap->freezer;
	struct ff_thread *running;

	if (ff_test_skips_freeze())
		return 0;
	ff_scan_begin(snap);
	for (;;) {
		u32 fresh = ff_scan(snap);

		snap->take->counts.rescans++;
		if (fresh && freezer->mode == FF_FREEZE_IPI)
			ff_freezer_interrupt(snap);
		if (freezer->short_of_memory)
			return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
		running = ff_freezer_first_running(snap);
		if (!running && !fresh)
			return 0;
		if (fatal_signal_pending(current))
			return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
		if (time_after_eq(jiffies, freezer->deadline)) {
			if (running)
				snap->take->failure.pid = task_pid_vnr(running->task);
			return ff_fail(snap, -ETIMEDOUT, FF_REASON_FREEZE_TIMEOUT, running ? (s32)running->process : -1,
				       0);
		}
		if (running)
			ff_freezer_await(snap);
	}
}

void ff_freezer_note_workers(struct ff_snapshot *snap)
{
	struct ff_thread *thread;

	spin_lock(&snap->freezer.lock);
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		struct ff_space *space = snap->processes[thread->process].space;

		if (thread->state == FF_THREAD_KERNEL && space->arm_mode == FF_ARM_PUD) {
			space->arm_mode = FF_ARM_LAZY;
			space->arm_reason = FF_ARM_WORKERS;
		}
	}
	spin_unlock(&snap->freezer.lock);
}

int ff_freezer_check(struct ff_snapshot *snap)
{
	struct ff_counts *counts = &snap->take->counts;
	struct ff_thread *thread;

	spin_lock(&snap->freezer.lock);
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		if (thread->image.state == FF_THREAD_PARKED)
			counts->threads_parked++;
		else if (thread->image.state == FF_THREAD_KERNEL)
			counts->threads_kernel++;
		else if (thread->image.state == FF_THREAD_ASLEEP)
			counts->threads_asleep++;
		if (thread->image.state == FF_THREAD_ASLEEP &&
		    thread->switches != thread->task->nvcsw + thread->task->nivcsw)
			counts->threads_woken++;
	}
	spin_unlock(&snap->freezer.lock);
	/* One that was born since the freeze ended. */
	if (READ_ONCE(snap->freezer.short_of_memory))
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	if (READ_ONCE(snap->freezer.escaped))
		return ff_fail(snap, -ETIMEDOUT, FF_REASON_DEADLINE, -1, 0);
	if ((snap->take->flags & FF_TAKE_STRICT) && counts->threads_woken)
		return ff_fail(snap, -EAGAIN, FF_REASON_WOKEN, -1, 0);
	return 0;
}

void ff_freezer_thaw(struct ff_snapshot *snap)
{
	WRITE_ONCE(snap->freezer.thawed, true);
	wake_up_all(&snap->freezer.parking);
}

void ff_freezer_close(struct ff_snapshot *snap)
{
	struct ff_freezer *freezer = &snap->freezer;
	struct ff_thread *thread;

	if (freezer->closed)
		return;
	freezer->closed = true;
	ff_scan_end();
	ff_freezer_thaw(snap);
	list_for_each_entry(thread, &freezer->threads, link) {
		if (thread->queued && ff_task_work_cancel(thread->task, &thread->work))
			atomic_dec(&freezer->busy);
	}
	/* What could not be cancelled is running, and about to leave. */
	ff_freezer_done(freezer);
	wait_for_completion(&freezer->idle);
}

static void ff_thread_free(struct ff_thread *thread)
{
	list_del(&thread->link);
	if (thread->task)
		put_task_struct(thread->task);
	kvfree(thread->regs);
	kfree(thread);
}

void ff_freezer_free(struct ff_snapshot *snap)
{
	struct ff_thread *thread, *next;

	list_for_each_entry_safe(thread, next, &snap->freezer.threads, link)
		ff_thread_free(thread);
	list_for_each_entry_safe(thread, next, &snap->freezer.spare, link)
		ff_thread_free(thread);
}
