/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The COW path: walk the page tables, hold every private page, make it copy-on-write. */
#ifndef FF_ARM_H
#define FF_ARM_H

#include "snapshot.h"

struct ff_walk_totals {
	u64 pages;
	u64 shared;
	u32 vmas;
};

/* Counts what arming will hold and brings in what is swapped. mmap_lock held for reading. */
int ff_walk_count(struct ff_snapshot *snap, struct ff_space *space, struct ff_walk_totals *totals);
/* Arms one address space; the TLBs are flushed before it returns. mmap_lock and every VMA held for writing. */
int ff_space_arm(struct ff_snapshot *snap, struct ff_space *space);

#endif
