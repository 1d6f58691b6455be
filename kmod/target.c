// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "target.h"

#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "space.h"

/* The process that @target names, with a reference to its leader. */
static int ff_target_find(struct ff_snapshot *snap, s32 index, struct ff_target target, struct task_struct **leader)
{
	struct pid *pid;

	if (target.kind == FF_TARGET_PID) {
		pid = find_get_pid(target.id);
	} else if (target.kind == FF_TARGET_PIDFD) {
		pid = ff_pidfd_get_pid(target.id);
		if (!pid)
			return ff_fail(snap, -EBADF, FF_REASON_BAD_PIDFD, index, 0);
	} else {
		return ff_fail(snap, -EINVAL, FF_REASON_BAD_ARGUMENT, index, 0);
	}
	*leader = pid ? get_pid_task(pid, PIDTYPE_TGID) : NULL;
	put_pid(pid);
	return *leader ? 0 : ff_fail(snap, -ESRCH, FF_REASON_NO_SUCH_PROCESS, index, 0);
}

/* The leader of a process may have exited before its threads: any of them has the memory. */
static struct mm_struct *ff_process_mm(struct task_struct *leader)
{
	struct mm_struct *mm = NULL;
	struct task_struct *task;

	rcu_read_lock();
	for_each_thread(leader, task) {
		mm = get_task_mm(task);
		if (mm)
			break;
	}
	rcu_read_unlock();
	return mm;
}

/* Takes over the reference to @mm. */
static struct ff_space *ff_snapshot_space(struct ff_snapshot *snap, struct mm_struct *mm, s32 target, pid_t tgid)
{
	u32 index;

	for (index = 0; index < snap->space_count; index++) {
		if (snap->spaces[index].mm == mm) {
			mmput_async(mm); /* never the last one */
			return &snap->spaces[index];
		}
	}
	snap->spaces[snap->space_count].mm = mm;
	snap->spaces[snap->space_count].tgid = tgid;
	snap->spaces[snap->space_count].target = target;
	return &snap->spaces[snap->space_count++];
}

static int ff_target_add(struct ff_snapshot *snap, s32 index, struct ff_target target)
{
	struct ff_process *process = &snap->processes[snap->process_count];
	struct task_struct *leader;
	struct mm_struct *mm;
	u32 other;
	int err;

	err = ff_target_find(snap, index, target, &leader);
	if (err)
		return err;
	for (other = 0; other < snap->process_count; other++) {
		if (snap->processes[other].leader == leader) {
			put_task_struct(leader);
			return ff_fail(snap, -EEXIST, FF_REASON_DUPLICATE, index, 0);
		}
	}
	/* From here on ff_snapshot_free() drops the reference. */
	process->leader = leader;
	snap->process_count++;
	if (leader->flags & PF_KTHREAD)
		return ff_fail(snap, -EINVAL, FF_REASON_KERNEL_THREAD, index, 0);
	if (same_thread_group(leader, current))
		return ff_fail(snap, -EDEADLK, FF_REASON_SELF, index, 0);
	mm = ff_process_mm(leader);
	if (!mm)
		return ff_fail(snap, -ESRCH, FF_REASON_EXITING, index, 0);
	process->space = ff_snapshot_space(snap, mm, index, leader->tgid);
	if (mm == current->mm)
		return ff_fail(snap, -EDEADLK, FF_REASON_SELF, index, 0);
	process->image.pid = task_tgid_vnr(leader);
	process->image.start_time_ns = leader->start_boottime;
	return ff_space_check(snap, process->space);
}

int ff_targets_resolve(struct ff_snapshot *snap)
{
	struct ff_target __user *targets = u64_to_user_ptr(snap->take->targets);
	u32 count = snap->take->target_count, index;
	int err;

	if (!count && !snap->take->fs_count)
		return ff_fail(snap, -EINVAL, FF_REASON_NO_TARGETS, -1, 0);
	if (count > FF_MAX_TARGETS)
		return ff_fail(snap, -E2BIG, FF_REASON_TOO_MANY_TARGETS, -1, 0);
	snap->processes = kvcalloc(count, sizeof(*snap->processes), GFP_KERNEL);
	snap->spaces = kvcalloc(count, sizeof(*snap->spaces), GFP_KERNEL);
	if (!snap->processes || !snap->spaces)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	for (index = 0; index < count; index++) {
		struct ff_target target;

		if (copy_from_user(&target, &targets[index], sizeof(target)))
			return ff_fail(snap, -EFAULT, FF_REASON_BAD_POINTER, index, 0);
		err = ff_target_add(snap, index, target);
		if (err)
			return err;
	}
	snap->take->counts.processes = count;
	return 0;
}

int ff_targets_recheck(struct ff_snapshot *snap)
{
	u32 index;

	for (index = 0; index < snap->process_count; index++) {
		struct ff_process *process = &snap->processes[index];
		struct mm_struct *mm = NULL;
		struct task_struct *task;

		rcu_read_lock();
		for_each_thread(process->leader, task) {
			mm = READ_ONCE(task->mm);
			if (mm)
				break;
		}
		rcu_read_unlock();
		if (!mm)
			return ff_fail(snap, -ESRCH, FF_REASON_EXITING, index, 0);
		if (mm != process->space->mm)
			return ff_fail(snap, -EAGAIN, FF_REASON_EXEC, index, 0);
		memcpy(process->image.comm, process->leader->comm, sizeof(process->image.comm));
		process->image.comm[sizeof(process->image.comm) - 1] = 0;
	}
	return 0;
}
