// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "lazy.h"

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "gib.h"
#include "hook.h"
#include "leaf.h"
#include "notify.h"
#include "protect.h"
#include "quiesce.h"
#include "shared.h"
#include "test.h"
#include "walk.h"

/* ---- suspects ---------------------------------------------------------- */

static void ff_leaf_suspect(struct ff_lazy *lazy, struct ff_leaf *leaf, unsigned long start, unsigned long end)
{
	u32 index = ff_leaf_index(leaf, start), last = ff_leaf_index(leaf, end - 1);

	for (; index <= last; index++)
		set_bit(index, leaf->suspect);
	if (!test_and_set_bit(0, &leaf->listed))
		llist_add(&leaf->suspects, &lazy->suspects);
}

void ff_lazy_suspect(struct ff_lazy *lazy, unsigned long start, unsigned long end)
{
	unsigned long next;

	for (; start < end; start = next) {
		struct ff_leaf *leaf = xa_load(&lazy->tables, start >> PMD_SHIFT);

		next = pmd_addr_end(start, end);
		if (leaf)
			ff_leaf_suspect(lazy, leaf, start, next);
		else /* it is late: the stop will find it, and hold all of it to be suspect */
			ff_gib_mark_stale(lazy, start);
	}
}

bool ff_lazy_has_suspects(struct ff_lazy *lazy, unsigned long start, unsigned long end)
{
	struct ff_leaf *leaf;

	llist_for_each_entry(leaf, READ_ONCE(lazy->suspects.first), suspects)
	{
		if (leaf->addr < end && start < leaf->addr + PMD_SIZE)
			return true;
	}
	return false;
}

void ff_lazy_scan_page(struct ff_walk *walk, unsigned long addr, struct page *page)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct folio *folio = page_folio(page);
	int mapped;

	/* Of pages that are not exclusive, nobody can have been given one for writing. */
	if (!lazy || !PageAnonExclusive(page))
		return;
	if (likely(!folio_test_large(folio))) {
		if (unlikely(ff_folio_in_use(folio, 1)))
			ff_lazy_suspect(lazy, addr, addr + PAGE_SIZE);
		return;
	}
	/* One look for all its parts, for the two numbers must be of one moment. What is handed out later is noted. */
	if (walk->scanned != folio) {
		walk->scanned = folio;
		mapped = ff_folio_mapped(folio);
		walk->scanned_in_use = ff_folio_in_use(folio, mapped) || ff_folio_mapped(folio) != mapped;
	}
	if (walk->scanned_in_use)
		ff_lazy_suspect(lazy, addr, addr + PAGE_SIZE);
}

void ff_lazy_scan_hole(struct ff_walk *walk, unsigned long addr)
{
	if (walk->space->lazy)
		ff_gib_mark_stale(walk->space->lazy, addr);
}

/* ---- before the stop --------------------------------------------------- */

struct ff_leaf *ff_lazy_add_leaf(struct ff_lazy *lazy, unsigned long addr, bool late, gfp_t gfp)
{
	struct ff_leaf *leaf = ff_leaf_new(addr, gfp);

	if (!leaf)
		return NULL;
	leaf->late = late;
	if (xa_err(xa_store(&lazy->tables, addr >> PMD_SHIFT, leaf, gfp))) {
		ff_leaf_free(leaf);
		return NULL;
	}
	return leaf;
}

static int ff_note_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	struct ff_lazy *lazy = walk->space->lazy;

	if (walk->space->arm_mode == FF_ARM_PUD && ff_gib_note(lazy, addr))
		return ff_walk_out_of_memory(walk);
	if (xa_load(&lazy->tables, addr >> PMD_SHIFT) || ff_lazy_add_leaf(lazy, addr, false, GFP_KERNEL))
		return 0;
	return ff_walk_out_of_memory(walk);
}

/* Allocates for everything that there is now. */
static const struct ff_walk_ops ff_note_ops = {
	.table = ff_note_table,
	.huge = ff_note_table,
	.may_sleep = true,
};

static int ff_lazy_note_tables(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_walk walk = { .snap = snap, .space = space, .ops = &ff_note_ops };
	VMA_ITERATOR(vmi, space->mm, 0);
	int err = 0;

	mmap_read_lock(space->mm);
	for_each_vma(vmi, walk.vma) {
		if (ff_vma_has_private(walk.vma) || ff_vma_is_shmem(walk.vma))
			err = ff_walk_vma(&walk);
		if (err)
			break;
	}
	mmap_read_unlock(space->mm);
	return err;
}

int ff_lazy_begin(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_lazy *lazy = kzalloc(sizeof(*lazy), GFP_KERNEL);
	int err;

	if (!lazy)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, space->target, 0);
	lazy->mm = space->mm;
	lazy->space = space;
	xa_init(&lazy->tables);
	xa_init(&lazy->gibs);
	init_llist_head(&lazy->suspects);
	space->lazy = lazy;
	err = ff_lazy_note_tables(snap, space);
	if (err)
		return err;
	ff_hook_add(lazy);
	/* Takes mmap_lock for writing: whoever passed the door of the slow GUP before it was watched has left. */
	err = ff_notify_begin(lazy);
	if (err)
		return ff_fail(snap, err, err == -EINTR ? FF_REASON_INTERRUPTED : FF_REASON_NO_MEMORY, space->target,
			       0);
	/* As for the fast one: RCU Tasks would tell as well, but takes seconds where threads are busy. */
	if (!ff_quiesce(snap, space))
		WRITE_ONCE(lazy->uncertain, true);
	return 0;
}

/* ---- in the stop ------------------------------------------------------- */

/* The table at @addr, made if need be. */
static struct ff_leaf *ff_lazy_table(struct ff_lazy *lazy, unsigned long addr)
{
	struct ff_leaf *leaf = xa_load(&lazy->tables, addr >> PMD_SHIFT);

	if (likely(leaf))
		return leaf;
	return ff_lazy_add_leaf(lazy, addr, true, GFP_KERNEL);
}

void ff_lazy_rehearse(struct ff_lazy *lazy, unsigned long addr)
{
	struct ff_leaf *leaf = xa_load(&lazy->tables, addr >> PMD_SHIFT);

	if (leaf)
		READ_ONCE(leaf->stopped);
}

/* What a suspect is finalized as later, in ff_lazy_settle(). */
static void ff_lazy_suspect_late(struct ff_walk *walk, struct ff_leaf *leaf, unsigned long addr, unsigned long end)
{
	struct ff_lazy *lazy = walk->space->lazy;

	if (unlikely(leaf->late || READ_ONCE(lazy->uncertain)))
		ff_leaf_suspect(lazy, leaf, addr, end);
}

/* Where it stays unreadable, ff_leaf_arm() passes it over. */
static int ff_lazy_bring_in(struct ff_walk *walk, struct ff_leaf *leaf, unsigned long addr)
{
	int err = ff_walk_bring_in(walk, addr);

	if (err <= 0)
		return err;
	set_bit(ff_leaf_index(leaf, addr), leaf->unreadable);
	walk->snap->take->counts.pages_unreadable++;
	return 0;
}

int ff_lazy_arm_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct ff_leaf *leaf = ff_lazy_table(lazy, addr);
	enum ff_step step;
	int err;

	if (!leaf)
		return ff_walk_out_of_memory(walk);
	ff_lazy_suspect_late(walk, leaf, addr, end);
	if (walk->shared) {
		ff_protect_table(lazy->mm, pmdp, addr, end);
		return 0;
	}
	while (addr < end) {
		unsigned long begin = addr;

		spin_lock(&leaf->lock);
		leaf->stopped = true;
		step = ff_leaf_arm(lazy, leaf, pmdp, &addr, end);
		/*
		 * Whoever has announced a change may be about to make it. Asked under the lock: whoever announces one
		 * from now on waits for it, and finds what is armed.
		 */
		if (ff_notify_is_pending(lazy, begin, addr)) {
			enum ff_step held;

			ff_test_dwell(2);
			held = ff_leaf_finalize(lazy, leaf, begin, addr, FF_PATH_STOP, &walk->snap->pages);
			if (held != FF_STEP_NEXT) {
				/* Nothing of it may stay armed while the lock is not held: it was announced. */
				ff_leaf_disarm(leaf, begin, addr);
				step = held;
				addr = begin;
			}
		}
		spin_unlock(&leaf->lock);
		if (step == FF_STEP_NEED_SPARE) {
			if (ff_pages_reserve_spare(&walk->snap->pages, 16))
				return ff_walk_out_of_memory(walk);
		} else if (step == FF_STEP_BRING_IN) {
			err = ff_lazy_bring_in(walk, leaf, addr);
			if (err)
				return err;
		}
	}
	return 0;
}

int ff_lazy_arm_huge(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct ff_leaf *leaf = ff_lazy_table(lazy, addr);

	if (!leaf)
		return ff_walk_out_of_memory(walk);
	ff_lazy_suspect_late(walk, leaf, addr, end);
	if (walk->shared)
		return ff_protect_huge(lazy->mm, pmdp) ? 0 : ff_lazy_arm_table(walk, pmdp, addr, end);
	for (;;) {
		enum ff_step step;
		int err;

		spin_lock(&leaf->lock);
		leaf->stopped = true;
		step = ff_leaf_arm_huge(lazy, leaf, pmdp);
		if (step == FF_STEP_NEXT && ff_notify_is_pending(lazy, addr, end)) {
			ff_test_dwell(2);
			step = ff_leaf_finalize(lazy, leaf, addr, end, FF_PATH_STOP, &walk->snap->pages);
			if (step != FF_STEP_NEXT)
				ff_leaf_disarm(leaf, addr, end);
		}
		spin_unlock(&leaf->lock);
		switch (step) {
		case FF_STEP_NEXT:
			return 0;
		case FF_STEP_SPLIT:
			return ff_lazy_arm_table(walk, pmdp, addr, end);
		case FF_STEP_NEED_SPARE:
			if (ff_pages_reserve_spare(&walk->snap->pages, HPAGE_PMD_NR))
				return ff_walk_out_of_memory(walk);
			break;
		case FF_STEP_BRING_IN: /* under migration */
			err = ff_walk_bring_in(walk, addr);
			if (err)
				return err < 0 ? err : ff_fail(walk->snap, -EIO, FF_REASON_SWAP_IN, -1, addr);
			break;
		case FF_STEP_CHANGED:
		case FF_STEP_SHARE: /* never comes here */
			break;
		}
	}
}

const struct ff_walk_ops ff_lazy_ops = {
	.table = ff_lazy_arm_table,
	.huge = ff_lazy_arm_huge,
};

/* A suspect in a gigabyte that is armed as a whole is armed by itself, for the look at its references. */
static int ff_lazy_arm_leaf(struct ff_walk *walk, struct ff_leaf *leaf)
{
	struct ff_walk one = { .snap = walk->snap, .space = walk->space, .ops = &ff_lazy_ops };
	unsigned long end = leaf->addr + PMD_SIZE;
	VMA_ITERATOR(vmi, walk->space->mm, leaf->addr);
	int err = 0;

	for_each_vma_range(vmi, one.vma, end)
	{
		if (ff_vma_has_private(one.vma))
			err = ff_walk_range(&one, max(leaf->addr, one.vma->vm_start), min(end, one.vma->vm_end));
		if (err)
			break;
	}
	return err;
}

int ff_lazy_settle(struct ff_walk *walk)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct ff_pages *pages = &walk->snap->pages;
	struct ff_leaf *leaf;

	/* From here on nothing is handed out for writing but through a page fault. */
	WRITE_ONCE(lazy->stopped, true);
	llist_for_each_entry(leaf, READ_ONCE(lazy->suspects.first), suspects)
	{
		enum ff_step step;
		int err = leaf->stopped ? 0 : ff_lazy_arm_leaf(walk, leaf);

		if (err)
			return err;
		do {
			if (ff_pages_reserve_spare(pages, leaf->huge ? HPAGE_PMD_NR : 16))
				return ff_walk_out_of_memory(walk);
			spin_lock(&leaf->lock);
			step = ff_leaf_settle(lazy, leaf, pages);
			spin_unlock(&leaf->lock);
		} while (step == FF_STEP_NEED_SPARE);
		/* Nobody had announced it, or it would have been held at once. */
		if (step == FF_STEP_CHANGED)
			return ff_fail(walk->snap, -EIO, FF_REASON_CHANGED, walk->space->target, leaf->addr);
		ff_shared_settle(walk->space, leaf);
	}
	WRITE_ONCE(lazy->settled, true);
	return 0;
}
