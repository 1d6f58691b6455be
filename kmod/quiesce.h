/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Where a thread is, seen from outside: in user mode, or in a system call. */
#ifndef FF_QUIESCE_H
#define FF_QUIESCE_H

#include <linux/sched.h>
#include <linux/sched/task_stack.h>

#include "snapshot.h"

/*
 * Was it in user mode when an interrupt or a page fault took it to the kernel? The entry code notes -1 there for
 * everything but system calls. Of a thread that has been in user mode since, it says how it was in the kernel last.
 */
static inline bool ff_task_was_in_user_mode(struct task_struct *task)
{
	const void *stack;
	bool was = false;

	/* Should it exit now, its stack is kept, or another's, until a grace period has passed (free_thread_stack()).
	 */
	rcu_read_lock();
	stack = READ_ONCE(task->stack);
	if (stack) {
		const struct pt_regs *top = stack + THREAD_SIZE - TOP_OF_KERNEL_STACK_PADDING;

		was = (long)READ_ONCE(top[-1].orig_ax) == -1;
	}
	rcu_read_unlock();
	return was;
}

/*
 * Waits until every thread of @space has been seen once outside of a running system call: none is any longer in what it
 * was at when we were called. False: that could not be seen, within the time that one cares to wait.
 */
bool ff_quiesce(struct ff_snapshot *snap, struct ff_space *space);

#endif
