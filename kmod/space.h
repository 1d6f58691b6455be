/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The address spaces of the targets: locks, limits, and the list of their mappings. */
#ifndef FF_SPACE_H
#define FF_SPACE_H

#include "snapshot.h"

/* Refuses what cannot be snapshotted soundly. Needs no lock; takes mmap_lock for reading. */
int ff_space_check(struct ff_snapshot *snap, struct ff_space *space);
/* Brings swapped pages in and makes room for all that the stop will note. */
int ff_space_prepare(struct ff_snapshot *snap, struct ff_space *space);
/*
 * The stop is so short that most of its time goes into what no cache and no TLB has: code, and data, that it meets for
 * the first time. So all of it is gone through once just before, as far as that changes nothing. ff_freezer_rehearse()
 * is the other half. Nothing may sleep between them and the stop.
 */
void ff_spaces_rehearse(struct ff_snapshot *snap);
/* Locks every address space against change and page faults. */
int ff_spaces_lock(struct ff_snapshot *snap);
void ff_spaces_unlock(struct ff_snapshot *snap);
/* Notes the VMAs and the layout. In the stop. */
int ff_space_note(struct ff_snapshot *snap, struct ff_space *space);
/* The first of the noted VMAs that ends behind @addr. */
u32 ff_space_find_vma(const struct ff_space *space, unsigned long addr);
void ff_space_free(struct ff_space *space);

#endif
