/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* One page table's worth of lazily armed memory: arm it, hold its pages, hand them over. See lazy.h for the why. */
#ifndef FF_LEAF_H
#define FF_LEAF_H

#include "lazy.h"
#include "walk.h"

/* How much the caller's pass finalizes at a time: a fault in the same table waits for as long. */
#define FF_FINALIZE_BITE (64 * PAGE_SIZE)

struct ff_leaf *ff_leaf_new(unsigned long addr, gfp_t gfp);
/* Drops what it holds. */
void ff_leaf_free(struct ff_leaf *leaf);

static inline u32 ff_leaf_index(const struct ff_leaf *leaf, unsigned long addr)
{
	return (addr - leaf->addr) >> PAGE_SHIFT;
}

/* All of the following but the last two: under leaf->lock. */

/* Arms from *@addr; where it returns anything but FF_STEP_NEXT, *@addr is what is in the way. */
enum ff_step ff_leaf_arm(struct ff_lazy *lazy, struct ff_leaf *leaf, pmd_t *pmdp, unsigned long *addr,
			 unsigned long end);
enum ff_step ff_leaf_arm_huge(struct ff_lazy *lazy, struct ff_leaf *leaf, pmd_t *pmdp);
/*
 * Holds what is armed in the range. In the stop it asks of every page whether it is in use, and copies into @spare, of
 * which it may want more (FF_STEP_NEED_SPARE). Where somebody changed an entry that he had announced to change before
 * it was armed, that is to be armed again (FF_STEP_CHANGED). Elsewhere @spare is NULL, and it always succeeds.
 */
enum ff_step ff_leaf_finalize(struct ff_lazy *lazy, struct ff_leaf *leaf, unsigned long start, unsigned long end,
			      enum ff_path path, struct ff_pages *spare);
/* Forgets what is armed in the range: to be armed again. */
void ff_leaf_disarm(struct ff_leaf *leaf, unsigned long start, unsigned long end);
/* Holds the suspects. In the stop. */
enum ff_step ff_leaf_settle(struct ff_lazy *lazy, struct ff_leaf *leaf, struct ff_pages *spare);
/* Holds what a fault at @addr may change. */
void ff_leaf_finalize_fault(struct ff_lazy *lazy, struct ff_leaf *leaf, unsigned long addr);

/*
 * Moves the references in the range to the snapshot, which has room for PTRS_PER_PTE pages and as many runs.
 * @clean_flags are those of runs of pages whose entries have not changed.
 */
void ff_leaf_collect(struct ff_leaf *leaf, unsigned long start, unsigned long end, u32 clean_flags,
		     struct ff_pages *pages);

#endif
