// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The second half of lazy.h: what happens to armed memory after the stop. */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "gib.h"
#include "hook.h"
#include "lazy.h"
#include "leaf.h"
#include "notify.h"
#include "pace.h"
#include "shared.h"
#include "stall.h"
#include "track.h"

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
		ff_note_stall(&lazy->stall_ns, begin);
}

/* Finalizes a range on behalf of somebody who is not to be kept waiting. */
static void ff_lazy_finalize_range(struct ff_lazy *lazy, unsigned long start, unsigned long end, enum ff_path path,
				   bool may_sleep)
{
	unsigned long index = start >> PMD_SHIFT, last = (end - 1) >> PMD_SHIFT;
	struct ff_leaf *leaf;
	u64 begin = ktime_get_ns();
	bool any = ff_gib_open(lazy, start, end);

	xa_for_each_range(&lazy->tables, index, leaf, index, last)
	{
		spin_lock(&leaf->lock);
		if (!bitmap_empty(leaf->armed, PTRS_PER_PTE)) {
			any = true;
			ff_leaf_finalize(lazy, leaf, max(start, leaf->addr), min(end, leaf->addr + PMD_SIZE), path,
					 NULL);
		}
		spin_unlock(&leaf->lock);
		if (may_sleep)
			cond_resched();
	}
	if (any)
		ff_note_stall(&lazy->stall_ns, begin);
}

void ff_lazy_gup(struct ff_lazy *lazy, unsigned long start, unsigned long end, bool forced)
{
	u64 begin = ktime_get_ns();

	if (!READ_ONCE(lazy->stopped))
		ff_lazy_suspect(lazy, start, end);
	else if (forced)
		ff_lazy_finalize_range(lazy, start, end, FF_PATH_GUP, false);
	else if (ff_gib_open(lazy, start, end))
		ff_note_stall(&lazy->stall_ns, begin);
}

void ff_lazy_range(struct ff_lazy *lazy, unsigned long start, unsigned long end, bool may_sleep)
{
	if (!READ_ONCE(lazy->over))
		ff_lazy_finalize_range(lazy, start, end, FF_PATH_NOTIFIER, may_sleep);
}

static void ff_lazy_open_all(struct ff_lazy *lazy, struct ff_pace *pace)
{
	struct ff_gib *gib;
	unsigned long index;

	xa_for_each(&lazy->gibs, index, gib)
	{
		ff_gib_open(lazy, gib->addr, gib->addr + 1);
		ff_pace(pace);
	}
}

int ff_lazy_finalize(struct ff_snapshot *snap, struct ff_space *space, struct ff_pace *pace)
{
	struct ff_lazy *lazy = space->lazy;
	struct ff_leaf *leaf;
	unsigned long index;

	ff_lazy_open_all(lazy, pace);
	xa_for_each(&lazy->tables, index, leaf)
	{
		unsigned long addr = leaf->addr, end = addr + PMD_SIZE;

		/* In small bites, for a fault in this table waits meanwhile; a huge page is one. */
		for (; addr < end; addr += FF_FINALIZE_BITE) {
			spin_lock(&leaf->lock);
			ff_leaf_finalize(lazy, leaf, addr, addr + FF_FINALIZE_BITE, FF_PATH_BACKGROUND, NULL);
			spin_unlock(&leaf->lock);
			ff_pace(pace);
		}
		if (fatal_signal_pending(current))
			return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
	}
	if (READ_ONCE(lazy->changed))
		return ff_fail(snap, -EIO, FF_REASON_CHANGED, space->target, lazy->changed);
	return READ_ONCE(lazy->lost) ? ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0) : 0;
}

/* After a failure there is still something armed; it stays write-protected, which costs a fault and no copy. */
static void ff_lazy_disarm(struct ff_lazy *lazy)
{
	struct ff_leaf *leaf;
	unsigned long index;

	ff_gib_disarm(lazy);
	xa_for_each(&lazy->tables, index, leaf)
	{
		spin_lock(&leaf->lock);
		bitmap_zero(leaf->armed, PTRS_PER_PTE);
		spin_unlock(&leaf->lock);
	}
	WRITE_ONCE(lazy->over, true);
}

void ff_lazy_end(struct ff_snapshot *snap)
{
	u32 index;
	bool any = ff_shared_end(snap);

	for (index = 0; index < snap->space_count; index++) {
		struct ff_lazy *lazy = snap->spaces[index].lazy;

		if (!lazy || lazy->over)
			continue;
		ff_lazy_disarm(lazy);
		ff_hook_remove(lazy);
		any = true;
	}
	if (!any)
		return;
	/* One grace period for all of them. */
	ff_hook_drain();
	for (index = 0; index < snap->space_count; index++) {
		if (snap->spaces[index].lazy)
			ff_notify_end(snap->spaces[index].lazy);
	}
}

static int ff_lazy_collect_vma(struct ff_snapshot *snap, struct ff_space *space, struct ff_vma *vma)
{
	unsigned long first = vma->image.start >> PMD_SHIFT, last = (vma->image.end - 1) >> PMD_SHIFT, index;
	u32 clean_flags = ff_track_trusts(space, vma) ? FF_RUN_UNCHANGED : 0;
	struct ff_lazy *lazy = space->lazy;
	struct ff_leaf *leaf;

	xa_for_each_range(&lazy->tables, index, leaf, first, last)
	{
		/* A run for each page at the most: it takes as many where every other one is there already. */
		if (ff_pages_reserve(&snap->pages, PTRS_PER_PTE, PTRS_PER_PTE))
			return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
		ff_leaf_collect(leaf, max_t(unsigned long, vma->image.start, leaf->addr),
				min_t(unsigned long, vma->image.end, leaf->addr + PMD_SIZE), clean_flags, &snap->pages);
	}
	return 0;
}

int ff_lazy_collect(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_pages *pages = &snap->pages;
	struct ff_leaf *leaf;
	unsigned long index;
	u64 held = 0, copied = 0;
	u32 number, path;
	int err;

	xa_for_each(&space->lazy->tables, index, leaf)
	{
		held += bitmap_weight(leaf->held, PTRS_PER_PTE);
		copied += bitmap_weight(leaf->copied, PTRS_PER_PTE);
		snap->take->counts.huge_armed += leaf->held_huge;
		for (path = 0; path < FF_PATH_COUNT; path++)
			snap->take->counts.finalized[path] += leaf->finalized[path];
	}
	for (number = 0; number < space->vma_count; number++) {
		struct ff_vma *vma = &space->vmas[number];
		u32 first = pages->run_count;

		if (!vma->private)
			continue;
		ff_pages_break_run(pages);
		err = ff_lazy_collect_vma(snap, space, vma);
		if (err)
			return err;
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
	xa_for_each(&lazy->tables, index, leaf)
	{
		ff_leaf_free(leaf);
		cond_resched();
	}
	xa_destroy(&lazy->tables);
	ff_gib_free(lazy);
	kfree(lazy);
}
