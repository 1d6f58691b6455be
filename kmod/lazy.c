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
#include "quiesce.h"
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

static void ff_lazy_suspect(struct ff_lazy *lazy, unsigned long start, unsigned long end)
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

	llist_for_each_entry(leaf, READ_ONCE(lazy->suspects.first), suspects) {
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

struct ff_leaf *ff_lazy_add_leaf(struct ff_lazy *lazy, unsigned long addr, gfp_t gfp)
{
	struct ff_leaf *leaf = ff_leaf_new(addr, gfp);

	if (leaf && xa_err(xa_store(&lazy->tables, addr >> PMD_SHIFT, leaf, gfp))) {
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
	if (xa_load(&lazy->tables, addr >> PMD_SHIFT) || ff_lazy_add_leaf(lazy, addr, GFP_KERNEL))
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
		if (ff_vma_has_private(walk.vma))
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
	leaf = ff_lazy_add_leaf(lazy, addr, GFP_KERNEL);
	if (leaf)
		leaf->late = true;
	return leaf;
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
	while (addr < end) {
		unsigned long begin = addr;

		spin_lock(&leaf->lock);
		leaf->stopped = true;
		step = ff_leaf_arm(lazy, leaf, pmdp, &addr, end);
		/*
		 * Whoever has announced a change may be about to make it. Asked under the lock: whoever announces one from
		 * now on waits for it, and finds what is armed.
		 */
		if (ff_notify_is_pending(lazy, begin, addr)) {
			enum ff_step held = ff_leaf_finalize(lazy, leaf, begin, addr, FF_PATH_STOP, &walk->snap->pages);

			if (held != FF_STEP_NEXT) {
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
	for (;;) {
		enum ff_step step;
		int err;

		spin_lock(&leaf->lock);
		leaf->stopped = true;
		step = ff_leaf_arm_huge(lazy, leaf, pmdp);
		if (step == FF_STEP_NEXT && ff_notify_is_pending(lazy, addr, end))
			step = ff_leaf_finalize(lazy, leaf, addr, end, FF_PATH_STOP, &walk->snap->pages);
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

	for_each_vma_range(vmi, one.vma, end) {
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
	llist_for_each_entry(leaf, READ_ONCE(lazy->suspects.first), suspects) {
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
	}
	return 0;
}

/* ---- after the stop ---------------------------------------------------- */

static void ff_lazy_note_stall(struct ff_lazy *lazy, u64 since)
{
	u64 took = ktime_get_ns() - since, before = READ_ONCE(lazy->stall_ns);

	while (took > before && !try_cmpxchg64(&lazy->stall_ns, &before, took))
		;
}

void ff_lazy_fault(struct ff_lazy *lazy, unsigned long addr)
{
	u64 begin = ktime_get_ns();
	bool kept = ff_gib_open(lazy, addr, addr + 1);
	struct ff_leaf *leaf = xa_load(&lazy->tables, addr >> PMD_SHIFT);

	if (leaf && test_bit(ff_leaf_index(leaf, addr), leaf->armed)) {
		spin_lock(&leaf->lock);
		ff_leaf_finalize_fault(lazy, leaf, addr);
		spin_unlock(&leaf->lock);
		kept = true;
	}
	if (kept)
		ff_lazy_note_stall(lazy, begin);
}

/* Finalizes a range on behalf of somebody who is not to be kept waiting. */
static void ff_lazy_finalize_range(struct ff_lazy *lazy, unsigned long start, unsigned long end, enum ff_path path,
				   bool may_sleep)
{
	unsigned long index = start >> PMD_SHIFT, last = (end - 1) >> PMD_SHIFT;
	struct ff_leaf *leaf;
	u64 begin = ktime_get_ns();
	bool any = ff_gib_open(lazy, start, end);

	xa_for_each_range(&lazy->tables, index, leaf, index, last) {
		spin_lock(&leaf->lock);
		if (!bitmap_empty(leaf->armed, PTRS_PER_PTE)) {
			any = true;
			ff_leaf_finalize(lazy, leaf, max(start, leaf->addr), min(end, leaf->addr + PMD_SIZE), path, NULL);
		}
		spin_unlock(&leaf->lock);
		if (may_sleep)
			cond_resched();
	}
	if (any)
		ff_lazy_note_stall(lazy, begin);
}

void ff_lazy_gup(struct ff_lazy *lazy, unsigned long start, unsigned long end, bool forced)
{
	u64 begin = ktime_get_ns();

	if (!READ_ONCE(lazy->stopped))
		ff_lazy_suspect(lazy, start, end);
	else if (forced)
		ff_lazy_finalize_range(lazy, start, end, FF_PATH_GUP, false);
	else if (ff_gib_open(lazy, start, end))
		ff_lazy_note_stall(lazy, begin);
}

void ff_lazy_range(struct ff_lazy *lazy, unsigned long start, unsigned long end, bool may_sleep)
{
	if (!READ_ONCE(lazy->over))
		ff_lazy_finalize_range(lazy, start, end, FF_PATH_NOTIFIER, may_sleep);
}

static void ff_lazy_open_all(struct ff_lazy *lazy)
{
	struct ff_gib *gib;
	unsigned long index;

	xa_for_each(&lazy->gibs, index, gib) {
		ff_gib_open(lazy, gib->addr, gib->addr + 1);
		cond_resched();
	}
}

int ff_lazy_finalize(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_lazy *lazy = space->lazy;
	struct ff_leaf *leaf;
	unsigned long index;

	ff_lazy_open_all(lazy);
	xa_for_each(&lazy->tables, index, leaf) {
		unsigned long addr = leaf->addr, end = addr + PMD_SIZE;

		/* In small bites, for a fault in this table waits meanwhile; a huge page is one. */
		for (; addr < end; addr += FF_FINALIZE_BITE) {
			spin_lock(&leaf->lock);
			ff_leaf_finalize(lazy, leaf, addr, addr + FF_FINALIZE_BITE, FF_PATH_BACKGROUND, NULL);
			spin_unlock(&leaf->lock);
		}
		if (fatal_signal_pending(current))
			return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
		cond_resched();
	}
	return READ_ONCE(lazy->lost) ? ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0) : 0;
}

void ff_lazy_end(struct ff_lazy *lazy)
{
	struct ff_leaf *leaf;
	unsigned long index;

	if (lazy->over)
		return;
	ff_gib_disarm(lazy);
	/* After a failure there is still something armed; it stays write-protected, which costs a fault and no copy. */
	xa_for_each(&lazy->tables, index, leaf) {
		spin_lock(&leaf->lock);
		bitmap_zero(leaf->armed, PTRS_PER_PTE);
		spin_unlock(&leaf->lock);
	}
	WRITE_ONCE(lazy->over, true);
	ff_notify_end(lazy);
	if (!hlist_unhashed(&lazy->link))
		ff_hook_remove(lazy);
}

static void ff_lazy_collect_vma(struct ff_snapshot *snap, struct ff_lazy *lazy, struct ff_vma *vma)
{
	unsigned long first = vma->image.start >> PMD_SHIFT, last = (vma->image.end - 1) >> PMD_SHIFT, index;
	struct ff_leaf *leaf;

	xa_for_each_range(&lazy->tables, index, leaf, first, last)
		ff_leaf_collect(leaf, max_t(unsigned long, vma->image.start, leaf->addr),
				 min_t(unsigned long, vma->image.end, leaf->addr + PMD_SIZE), &snap->pages);
}

int ff_lazy_collect(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_pages *pages = &snap->pages;
	struct ff_leaf *leaf;
	unsigned long index;
	u64 held = 0, copied = 0;
	u32 runs = space->vma_count, number, path;

	xa_for_each(&space->lazy->tables, index, leaf) {
		held += bitmap_weight(leaf->held, PTRS_PER_PTE);
		copied += bitmap_weight(leaf->copied, PTRS_PER_PTE);
		runs += ff_leaf_runs(leaf);
		for (path = 0; path < FF_PATH_COUNT; path++)
			snap->take->counts.finalized[path] += leaf->finalized[path];
	}
	if (ff_pages_reserve(pages, held, runs))
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	for (number = 0; number < space->vma_count; number++) {
		struct ff_vma *vma = &space->vmas[number];
		u32 first = pages->run_count;

		if (!vma->lazy)
			continue;
		ff_pages_break_run(pages);
		ff_lazy_collect_vma(snap, space->lazy, vma);
		vma->image.first_run = first;
		vma->image.run_count = pages->run_count - first;
		cond_resched();
	}
	space->armed_pages += held - copied;
	space->copied_pages += copied;
	snap->take->counts.pages_armed += held - copied;
	snap->take->counts.pages_copied += copied;
	return 0;
}

void ff_lazy_free(struct ff_lazy *lazy)
{
	struct ff_leaf *leaf;
	unsigned long index;

	if (!lazy)
		return;
	ff_lazy_end(lazy);
	xa_for_each(&lazy->tables, index, leaf) {
		ff_leaf_free(leaf);
		cond_resched();
	}
	xa_destroy(&lazy->tables);
	ff_gib_free(lazy);
	kfree(lazy);
}
