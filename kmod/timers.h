/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Interval timers and POSIX timers of the targets. */
#ifndef FF_TIMERS_H
#define FF_TIMERS_H

#include <linux/sched.h>

#include "arena.h"
#include "freezeframe.h"

/* In the stop, under siglock of @task. */
void ff_timers_note(struct task_struct *task, struct ff_arena *arena, struct ff_image_timer **timers, u32 *count);

#endif
