/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_STALL_H
#define FF_STALL_H

#include <linux/timekeeping.h>

/* Raises *@stall to the time since @since. Safe from many at once. */
static inline void ff_note_stall(u64 *stall, u64 since)
{
	u64 took = ktime_get_ns() - since, before = READ_ONCE(*stall);

	while (took > before && !try_cmpxchg64(stall, &before, took))
		;
}

#endif
