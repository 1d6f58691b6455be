/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The COW path: walk the page tables, hold every private page, make it copy-on-write. */
#ifndef FF_ARM_H
#define FF_ARM_H

#include "snapshot.h"

/* Arms every address space; the TLBs are flushed before it returns. mmap_lock and every VMA held for writing. */
int ff_spaces_arm(struct ff_snapshot *snap);
/*
 * A part of ff_spaces_rehearse(), for one whose VMAs are as they were noted. mmap_lock held for reading. *@tables were
 * looked at for all spaces, of which there is a limit.
 */
void ff_arm_rehearse(struct ff_snapshot *snap, struct ff_space *space, u32 *tables);

#endif
