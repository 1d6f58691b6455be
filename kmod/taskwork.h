/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Work for other threads, done on their way to user mode, that can be taken back. */
#ifndef FF_TASKWORK_H
#define FF_TASKWORK_H

#include <linux/sched.h>
#include <linux/task_work.h>

/* False: it was not there any more. It is done, being done, or was never accepted. */
bool ff_task_work_cancel(struct task_struct *task, struct callback_head *work);

#endif
