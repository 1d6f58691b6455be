/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_REGS_H
#define FF_REGS_H

#include "snapshot.h"

/* Makes room for the registers of @thread, which will stand for a thread like @task. */
int ff_regs_reserve(struct ff_thread *thread, struct task_struct *task);
/* Copies the registers and the signal masks of every thread that is still. In the stop. */
int ff_regs_copy(struct ff_snapshot *snap);

#endif
