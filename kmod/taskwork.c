// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "taskwork.h"

#include <linux/spinlock.h>

/*
 * task_work_cancel() is not exported; this is what it does (kernel/task_work.c). pi_lock keeps task_work_run()
 * from running the list while an entry is taken out of it.
 */
bool ff_task_work_cancel(struct task_struct *task, struct callback_head *work)
{
	struct callback_head **link = &task->task_works, *entry;
	unsigned long flags;

	raw_spin_lock_irqsave(&task->pi_lock, flags);
	entry = READ_ONCE(*link);
	while (entry) {
		if (entry != work) {
			link = &entry->next;
			entry = READ_ONCE(*link);
		} else if (try_cmpxchg(link, &entry, entry->next)) {
			break;
		}
	}
	raw_spin_unlock_irqrestore(&task->pi_lock, flags);
	return entry == work;
}
