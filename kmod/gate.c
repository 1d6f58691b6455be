// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "gate.h"

#include <linux/delay.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "compat.h"
#include "space.h"

static LIST_HEAD(ff_gates);
static DEFINE_SPINLOCK(ff_gates_lock); /* guards ff_gates against other writers */
static unsigned int ff_gates_raised;   /* 0: page faults pass by */
static atomic_t ff_gate_waiters = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(ff_gate_queue);
static bool ff_gate_is_ready;

bool ff_gate_ready(void)
{
	return ff_gate_is_ready;
}

void ff_gate_set_ready(bool ready)
{
	ff_gate_is_ready = ready;
}

void ff_gate_raise(struct ff_gate *gate)
{
	spin_lock(&ff_gates_lock);
	list_add_rcu(&gate->link, &ff_gates);
	WRITE_ONCE(ff_gates_raised, ff_gates_raised + 1);
	gate->raised = true;
	spin_unlock(&ff_gates_lock);
}

void ff_gate_lower(struct ff_gate *gate)
{
	spin_lock(&ff_gates_lock);
	if (gate->raised) {
		list_del_rcu(&gate->link);
		WRITE_ONCE(ff_gates_raised, ff_gates_raised - 1);
		gate->raised = false;
	}
	spin_unlock(&ff_gates_lock);
	wake_up_all(&ff_gate_queue);
}

static bool ff_gate_has(const struct ff_gate *gate, const struct super_block *sb)
{
	u32 index;

	for (index = 0; index < gate->count; index++) {
		if (gate->filesystems[index] == sb)
			return true;
	}
	return false;
}

/* @sb is but a name here, it may be gone. */
static bool ff_gate_blocks(const struct super_block *sb)
{
	struct ff_gate *gate;
	bool found = false;

	rcu_read_lock();
	list_for_each_entry_rcu(gate, &ff_gates, link)
		found |= ff_gate_has(gate, sb);
	rcu_read_unlock();
	return found;
}

/* May a fault on it wait for the filesystem of its file? */
static struct super_block *ff_gate_vma_filesystem(const struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_SHARED) || !vma->vm_file || !vma->vm_ops || !vma->vm_ops->page_mkwrite)
		return NULL;
	return file_inode(vma->vm_file)->i_sb;
}

/* In the place of handle_mm_fault(). */
static vm_fault_t ff_gate_fault(struct vm_area_struct *vma, unsigned long address, unsigned int flags,
				struct pt_regs *regs)
{
	const struct super_block *sb = file_inode(vma->vm_file)->i_sb;

	ff_fault_unlock(vma, flags);
	wait_event_killable(ff_gate_queue, !ff_gate_blocks(sb));
	atomic_dec(&ff_gate_waiters);
	return VM_FAULT_RETRY;
}

bool notrace ff_gate_stops(struct vm_area_struct *vma, unsigned int flags, struct ftrace_regs *regs)
{
	struct super_block *sb;

	if (likely(!READ_ONCE(ff_gates_raised)) || !(flags & FAULT_FLAG_WRITE))
		return false;
	/* Who cannot start over waits where it always did, and the stop runs into its deadline. */
	if (!(flags & FAULT_FLAG_ALLOW_RETRY) || (flags & FAULT_FLAG_RETRY_NOWAIT))
		return false;
	sb = ff_gate_vma_filesystem(vma);
	if (!sb || !ff_gate_blocks(sb))
		return false;
	if (!(flags & FAULT_FLAG_USER) && READ_ONCE(sb->s_writers.frozen) < SB_FREEZE_PAGEFAULT)
		return false;
	atomic_inc(&ff_gate_waiters);
	ff_hook_lead(regs, (unsigned long)ff_gate_fault);
	return true;
}

/* mmap_lock held for writing. */
static void ff_gate_drain_vmas(struct mm_struct *mm, const struct ff_gate *gate)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);

	for_each_vma(vmi, vma) {
		const struct super_block *sb = ff_gate_vma_filesystem(vma);

		if (sb && ff_gate_has(gate, sb))
			ff_vma_lock(vma);
	}
}

int ff_gate_drain(struct ff_snapshot *snap, const struct ff_gate *gate, unsigned long deadline)
{
	u32 index;

	for (index = 0; index < snap->space_count; index++) {
		struct mm_struct *mm = snap->spaces[index].mm;

		while (!ff_mmap_write_trylock(mm)) {
			if (fatal_signal_pending(current))
				return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
			if (time_after(jiffies, deadline))
				return ff_fail(snap, -ETIMEDOUT, FF_REASON_LOCK_TIMEOUT, snap->spaces[index].target, 0);
			usleep_range(20, 100);
		}
		ff_gate_drain_vmas(mm, gate);
		mmap_write_unlock(mm);
	}
	return 0;
}

void ff_gate_module_exit(void)
{
	/* The hook is gone, and nobody has raised a gate who is not gone, too: those that are left are on their way. */
	while (atomic_read(&ff_gate_waiters))
		msleep(1);
	/* They may have been preempted in front of the return. */
	synchronize_rcu_tasks();
}
