/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The pace of the pass after the window. The scheduler would let it run for milliseconds before a target that woke up
 * on the same processor has its turn; so it goes away by itself every now and then, for a fifth of the time at most.
 */
#ifndef FF_PACE_H
#define FF_PACE_H

#include <linux/delay.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>

#define FF_PACE_WORK_NS (400 * NSEC_PER_USEC)
#define FF_PACE_REST_US 50

struct ff_pace {
	u64 since; /* when it last began to work */
	u64 work_ns;
	u64 rest_ns;
};

static inline void ff_pace_begin(struct ff_pace *pace)
{
	*pace = (struct ff_pace){ .since = ktime_get_ns() };
}

/* To be called every few microseconds, without locks. */
static inline void ff_pace(struct ff_pace *pace)
{
	u64 now = ktime_get_ns();

	if (now - pace->since < FF_PACE_WORK_NS) {
		cond_resched();
		return;
	}
	pace->work_ns += now - pace->since;
	usleep_range(FF_PACE_REST_US, 2 * FF_PACE_REST_US);
	pace->since = ktime_get_ns();
	pace->rest_ns += pace->since - now;
}

static inline void ff_pace_end(struct ff_pace *pace)
{
	pace->work_ns += ktime_get_ns() - pace->since;
}

#endif
