/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The mmu notifier: whoever is about to change page table entries of an armed address space says so first. */
#ifndef FF_NOTIFY_H
#define FF_NOTIFY_H

#include "lazy.h"

/* Does anybody else keep page tables of his own for this memory (KVM, RDMA ODP, HMM)? mmap_lock held. */
bool ff_notify_is_foreign(struct mm_struct *mm, struct ff_lazy *ours);
/* Sleeps; takes mmap_lock for writing. */
int ff_notify_begin(struct ff_lazy *lazy);
void ff_notify_end(struct ff_lazy *lazy);
/* Has somebody announced a change within the range that is not over yet? */
bool ff_notify_is_pending(struct ff_lazy *lazy, unsigned long start, unsigned long end);

#endif
