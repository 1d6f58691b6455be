// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "state.h"

#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/futex.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "snapshot.h"
#include "test.h"

/* More room than was measured, for what comes between that and the stop: each try doubles it. */
#define FF_SLACK SZ_64K

/* ---- in the stop: nothing here sleeps ---------------------------------- */

/* The thread that stands for its process: the leader, unless it exited before the others. With a reference. */
static struct task_struct *ff_process_thread(struct task_struct *leader)
{
	struct task_struct *task, *found = NULL;

	rcu_read_lock();
	for_each_thread(leader, task) {
		if (!READ_ONCE(task->files) || !READ_ONCE(task->fs))
			continue;
		found = get_task_struct(task);
		break;
	}
	rcu_read_unlock();
	return found ?: get_task_struct(leader);
}

static void ff_process_note(struct ff_snapshot *snap, struct ff_process *process)
{
	struct task_struct *leader = process->leader, *task = ff_process_thread(leader);
	struct ff_image_process *image = &process->image;
	struct ff_process_held *held = &process->held;
	struct ff_arena *arena = &snap->state.arena;

	image->flags = 0;
	image->ppid = task_ppid_nr_ns(leader, task_active_pid_ns(current));
	image->pgid = task_pgrp_vnr(leader);
	image->sid = task_session_vnr(leader);
	image->exit_signal = leader->exit_signal;
	image->personality = task->personality;
	image->oom_score_adj = task->signal->oom_score_adj;
	if (task->signal->is_child_subreaper)
		image->flags |= FF_PROCESS_SUBREAPER;
	if (test_tsk_thread_flag(task, TIF_ADDR32))
		image->flags |= FF_PROCESS_32BIT;
	if (ff_mm_has_aio(process->space->mm))
		image->flags |= FF_PROCESS_AIO;
	memcpy(held->limits, task->signal->rlim, sizeof(held->limits));
	ff_who_note(task, &held->who, image);
	image->uid = from_kuid_munged(current_user_ns(), held->who.cred->uid);
	image->gid = from_kgid_munged(current_user_ns(), held->who.cred->gid);
	ff_signals_note_process(task, arena, &held->signals);
	image->sigpending = held->signals.pending.waiting;
	ff_files_note(task, arena, &held->descriptors);
	if (!held->signals.known || !held->descriptors.files)
		image->flags |= FF_PROCESS_PARTIAL;
	put_task_struct(task);
}

static u32 ff_thread_flags(struct task_struct *task, const struct ff_process *process)
{
	u32 flags = 0;

	if (task_no_new_privs(task))
		flags |= FF_THREAD_NO_NEW_PRIVS;
	if (test_tsk_restore_sigmask(task))
		flags |= FF_THREAD_SIGSAVED;
	if (task->ptrace)
		flags |= FF_THREAD_TRACED;
	if (READ_ONCE(task->files) != process->held.descriptors.files)
		flags |= FF_THREAD_OWN_FILES;
	if (READ_ONCE(task->fs) != process->held.who.fs)
		flags |= FF_THREAD_OWN_FS;
	if (ff_task_has_io_uring(task))
		flags |= FF_THREAD_IO_URING;
	if (ff_task_has_sem_undo(task))
		flags |= FF_THREAD_SEM_UNDO;
	if (!same_thread_group(task, process->leader))
		flags |= FF_THREAD_FOREIGN;
	return flags;
}

static void ff_thread_note_scheduling(struct task_struct *task, struct ff_arena *arena, struct ff_thread_held *held,
				      struct ff_image_thread *image)
{
	image->policy = task->policy;
	image->nice = task_nice(task);
	image->rt_priority = task->rt_priority;
	if (task->policy == SCHED_DEADLINE) {
		image->dl_runtime = task->dl.dl_runtime;
		image->dl_deadline = task->dl.dl_deadline;
		image->dl_period = task->dl.dl_period;
	}
	held->cpus = ff_arena_take(arena, BITS_TO_LONGS(nr_cpu_ids) * sizeof(long));
	if (held->cpus)
		memcpy(held->cpus, cpumask_bits(&task->cpus_mask), BITS_TO_LONGS(nr_cpu_ids) * sizeof(long));
}

static void ff_thread_note(struct ff_snapshot *snap, struct ff_thread *thread)
{
	struct ff_process *process = &snap->processes[thread->process];
	struct ff_arena *arena = &snap->state.arena;
	struct ff_image_thread *image = &thread->image;
	struct task_struct *task = thread->task;

	/* Later an execve() may have given its number to another. Whoever exits has none in a namespace any more. */
	image->pid = task_pid_vnr(task) ?: task->pid;
	image->flags = ff_thread_flags(task, process);
	image->sigsaved = image->flags & FF_THREAD_SIGSAVED ? task->saved_sigmask.sig[0] : 0;
	image->altstack = task->sas_ss_sp;
	image->altstack_bytes = task->sas_ss_size;
	image->altstack_flags = task->sas_ss_flags;
	ff_task_rseq(task, image);
	image->robust_list = (unsigned long)task->robust_list;
	image->robust_bytes = task->robust_list ? sizeof(*task->robust_list) : 0;
	image->clear_child_tid = (unsigned long)task->clear_child_tid;
	BUILD_BUG_ON(sizeof(image->tls) != sizeof(task->thread.tls_array));
	memcpy(image->tls, task->thread.tls_array, sizeof(image->tls));
	image->seccomp = task->seccomp.mode;
	image->death_signal = task->pdeath_signal;
	ff_thread_note_scheduling(task, arena, &thread->held, image);
	ff_signals_note_thread(task, arena, &thread->held.pending);
	image->sigpending = thread->held.pending.waiting;
	thread->held.cred = ff_who_note_other(task, process->held.who.cred);
}

static void ff_state_note(struct ff_snapshot *snap)
{
	struct ff_thread *thread;
	u32 index;

	for (index = 0; index < snap->process_count; index++)
		ff_process_note(snap, &snap->processes[index]);
	/*
	 * No lock: threads are only ever added at the tail, and who is found here was there before the freeze ended.
	 * But for the kernel's workers, which nothing freezes: those that are born from here on are not of the instant.
	 */
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		u32 state = READ_ONCE(thread->state);

		if (state)
			ff_thread_note(snap, thread);
		thread->image.state = state;
	}
}

int ff_state_stop(struct ff_snapshot *snap)
{
	struct ff_arena *arena = &snap->state.arena;
	u64 begin = ktime_get_ns();

	ff_state_note(snap);
	snap->take->state_ns = ktime_get_ns() - begin;
	if (ff_arena_overflows(arena))
		return ff_fail(snap, -EAGAIN, FF_REASON_STATE_ROOM, -1, arena->used);
	return 0;
}

/* ---- before and after it ----------------------------------------------- */

static void ff_thread_drop(struct ff_thread_held *held)
{
	if (held->cred)
		put_cred(held->cred);
	memset(held, 0, sizeof(*held));
}

/* Drops every reference, and forgets what is in the arena. */
static void ff_state_drop(struct ff_snapshot *snap)
{
	struct ff_thread *thread;
	u32 index;

	for (index = 0; index < snap->process_count; index++) {
		ff_who_drop(&snap->processes[index].held.who);
		ff_files_drop(&snap->processes[index].held.descriptors);
	}
	list_for_each_entry(thread, &snap->freezer.threads, link)
		ff_thread_drop(&thread->held);
	snap->state.arena.used = 0;
}

struct ff_drop {
	struct work_struct work;
	struct ff_snapshot *snap;
};

static void ff_state_drop_work(struct work_struct *work)
{
	ff_state_drop(container_of(work, struct ff_drop, work)->snap);
}

/*
 * What we hold last is closed by who drops it: a process on its way back to user mode, which may be seconds away from
 * here; a thread of the kernel within a jiffy, and whatever that waits for, nobody else does.
 */
static void ff_state_drop_soon(struct ff_snapshot *snap)
{
	struct ff_drop drop = { .snap = snap };

	INIT_WORK_ONSTACK(&drop.work, ff_state_drop_work);
	queue_work(system_unbound_wq, &drop.work);
	flush_work(&drop.work);
	destroy_work_on_stack(&drop.work);
}

/* There are no struct ff_thread yet: one stands for them all in turn. */
static void ff_state_note_threads_ahead(struct ff_snapshot *snap, struct ff_thread *spare)
{
	u32 index;

	for (index = 0; index < snap->process_count; index++) {
		struct task_struct *task;

		spare->process = index;
		rcu_read_lock();
		for_each_thread(snap->processes[index].leader, task) {
			spare->task = task;
			ff_thread_note(snap, spare);
			ff_thread_drop(&spare->held);
		}
		rcu_read_unlock();
	}
}

/* As the stop does it; @spare is for threads. */
static void ff_state_note_ahead(struct ff_snapshot *snap, struct ff_thread *spare)
{
	ff_state_note(snap);
	ff_state_note_threads_ahead(snap, spare);
}

/* What does not fit is counted as far as it is found; so it takes a few times until nothing is missing. */
static int ff_state_measure(struct ff_snapshot *snap, struct ff_thread *spare)
{
	struct ff_arena *arena = &snap->state.arena;
	int err;

	for (;;) {
		size_t room;

		ff_state_note_ahead(snap, spare);
		if (arena->room && !ff_arena_overflows(arena))
			return 0;
		room = arena->used + arena->used / 4 + (FF_SLACK << snap->try);
		ff_state_drop_soon(snap);
		if (fatal_signal_pending(current))
			return -EINTR;
		err = ff_arena_reserve(arena, room);
		if (err)
			return err;
	}
}

int ff_state_prepare(struct ff_snapshot *snap)
{
	struct ff_thread *spare = kzalloc(sizeof(*spare), GFP_KERNEL);
	struct ff_arena *arena = &snap->state.arena;
	size_t used;
	int err;

	if (!spare)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	err = ff_state_measure(snap, spare);
	used = arena->used;
	if (!err)
		err = ff_previews_take(snap);
	ff_state_drop_soon(snap);
	kfree(spare);
	/* What is there now may be the last that fits; the slack is for what comes. */
	if (!err && arena->room - used < FF_SLACK / 2 << snap->try)
		err = ff_arena_reserve(arena, used + used / 4 + (FF_SLACK << snap->try));
	if (ff_test_state() & FF_TEST_STATE_ROOM)
		arena->room = used / 2;
	return err ? ff_fail(snap, err, err == -EINTR ? FF_REASON_INTERRUPTED : FF_REASON_NO_MEMORY, -1, 0) : 0;
}

void ff_state_rehearse(struct ff_snapshot *snap)
{
	u32 index;

	ff_state_note(snap);
	ff_test_phase(snap, FF_TEST_REHEARSAL);
	for (index = 0; index < snap->process_count; index++) {
		ff_who_forget(&snap->processes[index].held.who);
		ff_files_drop(&snap->processes[index].held.descriptors);
	}
	snap->state.arena.used = 0;
}

static int ff_process_resolve(struct ff_snapshot *snap, struct ff_process *process, char *scratch)
{
	struct ff_process_held *held = &process->held;
	struct ff_bytes *bytes = &snap->state.bytes;
	struct ff_image_process *image = &process->image;
	struct ff_image_limit *limits;
	u32 index;
	int err;

	err = ff_who_add(bytes, &held->who, scratch, image);
	if (!err)
		err = ff_signals_add_actions(bytes, &held->signals, &image->actions);
	if (!err)
		err = ff_signals_add(bytes, &held->signals.pending, &image->pending);
	if (!err)
		err = ff_signals_add_timers(bytes, &held->signals, &image->timers);
	if (err)
		return err;
	limits = ff_bytes_room(bytes, RLIM_NLIMITS * sizeof(*limits), &image->limits);
	if (!limits)
		return -ENOMEM;
	for (index = 0; index < RLIM_NLIMITS; index++) {
		limits[index].soft = held->limits[index].rlim_cur;
		limits[index].hard = held->limits[index].rlim_max;
	}
	return 0;
}

/* Threads change their credentials each for itself, to the same: then they have them from their process. */
static bool ff_credentials_are_same(const struct ff_bytes *bytes, struct ff_blob one, struct ff_blob other)
{
	return one.length == other.length && !memcmp(bytes->data + one.offset, bytes->data + other.offset, one.length);
}

static int ff_thread_resolve(struct ff_snapshot *snap, struct ff_thread *thread)
{
	const struct ff_image_process *process = &snap->processes[thread->process].image;
	struct ff_image_thread *image = &thread->image;
	struct ff_thread_held *held = &thread->held;
	struct ff_bytes *bytes = &snap->state.bytes;
	int err;

	err = ff_bytes_add(bytes, held->cpus, DIV_ROUND_UP(nr_cpu_ids, 8), &image->cpus);
	if (!err)
		err = ff_signals_add(bytes, &held->pending, &image->pending);
	if (err || !held->cred)
		return err;
	err = ff_who_add_credentials(bytes, held->cred, &image->credentials);
	if (!err && ff_credentials_are_same(bytes, image->credentials, process->credentials))
		image->credentials.length = 0;
	return err;
}

int ff_state_resolve(struct ff_snapshot *snap)
{
	char *scratch = kmalloc(PATH_MAX, GFP_KERNEL);
	struct ff_thread *thread;
	u32 index;
	int err = scratch ? 0 : -ENOMEM;

	if (ff_test_state() & FF_TEST_STATE_MEMORY)
		err = -ENOMEM;
	for (index = 0; index < snap->process_count && !err; index++)
		err = ff_process_resolve(snap, &snap->processes[index], scratch);
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		if (err)
			break;
		if (thread->image.state)
			err = ff_thread_resolve(snap, thread);
	}
	if (!err)
		err = ff_files_resolve(snap, scratch);
	kfree(scratch);
	ff_state_drop_soon(snap);
	ff_arena_free(&snap->state.arena);
	return err ? ff_fail(snap, err, FF_REASON_NO_MEMORY, -1, 0) : 0;
}

void ff_state_free(struct ff_snapshot *snap)
{
	ff_state_drop_soon(snap);
	ff_arena_free(&snap->state.arena);
	ff_previews_free(&snap->state.previews);
	ff_file_table_free(&snap->state.files);
	kvfree(snap->state.bytes.data);
	memset(&snap->state, 0, sizeof(snap->state));
}
