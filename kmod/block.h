/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* 512 pages of a shared file. See shared.h for the why. */
#ifndef FF_BLOCK_H
#define FF_BLOCK_H

#include <linux/pgtable.h>

#include "shared.h"

#define FF_BLOCK_ORDER (PMD_SHIFT - PAGE_SHIFT)

struct ff_block {
	spinlock_t lock; /* guards what follows but for suspect; outside ff_shared.lock */
	pgoff_t first;
	struct page **pages; /* PTRS_PER_PTE of them; those in held are references */
	u16 finalized[FF_PATH_COUNT];
	DECLARE_BITMAP(held, PTRS_PER_PTE);
	DECLARE_BITMAP(armed, PTRS_PER_PTE);	  /* those of held that are the file's own, and to be copied */
	DECLARE_BITMAP(suspect, PTRS_PER_PTE);	  /* to be copied in the stop; set by anybody before it */
	DECLARE_BITMAP(unreadable, PTRS_PER_PTE); /* poisoned */
};

static inline u32 ff_block_index(pgoff_t index)
{
	return index % PTRS_PER_PTE;
}

struct ff_block *ff_block_new(pgoff_t index);
/* Drops what it holds. */
void ff_block_free(struct ff_block *block);

/* All of the following: under block->lock. */

/* Takes over the reference to the page at @index. */
void ff_block_hold(struct ff_block *block, u32 index, struct page *page);
/* Copies what is armed from @first to before @last; where @wanted is given, what is in it, too. Returns how many. */
u32 ff_block_copy(struct ff_shared *shared, struct ff_block *block, u32 first, u32 last, const unsigned long *wanted,
		  enum ff_path path);
/* Lets go of pages that are the file's no more. */
void ff_block_forget(struct ff_shared *shared, struct ff_block *block);

#endif
