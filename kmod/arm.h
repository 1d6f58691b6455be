/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The COW path: walk the page tables, hold every private page, make it copy-on-write. */
#ifndef FF_ARM_H
#define FF_ARM_H

#include "snapshot.h"

/* Arms every address space; the TLBs are flushed before it returns. mmap_lock and every VMA held for writing. */
int ff_spaces_arm(struct ff_snapshot *snap);

#endif
