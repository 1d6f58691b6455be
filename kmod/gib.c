// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "gib.h"

#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "leaf.h"
#include "notify.h"
#include "protect.h"
#include "shared.h"
#include "space.h"
#include "test.h"

/* ---- before the stop --------------------------------------------------- */

int ff_gib_note(struct ff_lazy *lazy, unsigned long addr)
{
	struct ff_gib *gib;

	if (xa_load(&lazy->gibs, addr >> PUD_SHIFT))
		return 0;
	gib = kzalloc(sizeof(*gib), GFP_KERNEL);
	if (!gib)
		return -ENOMEM;
	spin_lock_init(&gib->lock);
	gib->addr = addr & PUD_MASK;
	if (!xa_err(xa_store(&lazy->gibs, addr >> PUD_SHIFT, gib, GFP_KERNEL)))
		return 0;
	kfree(gib);
	return -ENOMEM;
}

void ff_gib_mark_stale(struct ff_lazy *lazy, unsigned long addr)
{
	struct ff_gib *gib = xa_load(&lazy->gibs, addr >> PUD_SHIFT);

	if (gib)
		WRITE_ONCE(gib->stale, true);
}

static int ff_gib_check_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	pmd_t pmd = READ_ONCE(*pmdp);
	pte_t *ptep = pte_offset_kernel(&pmd, addr);

	for (; addr < end; addr += PAGE_SIZE, ptep++) {
		pte_t pte = ptep_get(ptep);

		if (!pte_none(pte) && !pte_present(pte))
			ff_gib_mark_stale(walk->space->lazy, addr);
	}
	return 0;
}

static int ff_gib_check_huge(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	if (!pmd_present(READ_ONCE(*pmdp)))
		ff_gib_mark_stale(walk->space->lazy, addr);
	return 0;
}

static const struct ff_walk_ops ff_gib_check_ops = {
	.table = ff_gib_check_table,
	.huge = ff_gib_check_huge,
};

/* Whoever announced the change holds the page tables of the range. Only what is small is swapped out or migrated. */
void ff_gib_check(struct ff_lazy *lazy, unsigned long start, unsigned long end)
{
	struct ff_walk walk = { .space = lazy->space, .ops = &ff_gib_check_ops };

	if (!xa_empty(&lazy->gibs) && end - start <= PMD_SIZE)
		ff_walk_range(&walk, start, end);
}

/* ---- in the stop ------------------------------------------------------- */

bool ff_gib_rehearse(struct ff_lazy *lazy, unsigned long addr)
{
	struct ff_gib *gib = xa_load(&lazy->gibs, addr >> PUD_SHIFT);

	return gib && !READ_ONCE(gib->stale);
}

static int ff_gib_arm(struct ff_walk *walk, pud_t *pudp, unsigned long addr, unsigned long end)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct ff_gib *gib = xa_load(&lazy->gibs, addr >> PUD_SHIFT);
	int armed;

	if (!gib)
		return 0;
	spin_lock(&gib->lock);
	if (gib->state == FF_GIB_NEW) {
		/* Asked under the lock: whoever announces from now on waits for it, and opens what is armed. */
		bool walked = READ_ONCE(gib->stale) || READ_ONCE(lazy->uncertain) ||
			      ff_notify_is_pending(lazy, gib->addr, gib->addr + PUD_SIZE);

		gib->pudp = pudp;
		gib->state = walked ? FF_GIB_OPENED : FF_GIB_ARMED;
		if (!walked && !ff_test_skips_arm())
			clear_bit(_PAGE_BIT_RW, (unsigned long *)pudp);
	}
	armed = gib->state == FF_GIB_ARMED;
	spin_unlock(&gib->lock);
	if (armed) {
		walk->armed_start = gib->addr;
		walk->armed_end = gib->addr + PUD_SIZE;
	}
	return armed;
}

const struct ff_walk_ops ff_gib_ops = {
	.gib = ff_gib_arm,
	.table = ff_lazy_arm_table,
	.huge = ff_lazy_arm_huge,
};

/* ---- opening ----------------------------------------------------------- */

static struct ff_leaf *ff_gib_leaf(struct ff_lazy *lazy, unsigned long addr)
{
	struct ff_leaf *leaf = xa_load(&lazy->tables, addr >> PMD_SHIFT);

	/* A page table that came after `prepare` looked. */
	if (likely(leaf))
		return leaf;
	return ff_test_has_no_memory() ? NULL : ff_lazy_add_leaf(lazy, addr, false, GFP_ATOMIC | __GFP_NOWARN);
}

static void ff_gib_open_leaf(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end, bool huge)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct ff_leaf *leaf = ff_gib_leaf(lazy, addr);
	enum ff_step step = FF_STEP_NEXT;

	if (!leaf) {
		WRITE_ONCE(lazy->lost, true);
		return;
	}
	spin_lock(&leaf->lock);
	if (!leaf->stopped)
		step = huge ? ff_leaf_arm_huge(lazy, leaf, pmdp) : ff_leaf_arm(lazy, leaf, pmdp, &addr, end);
	spin_unlock(&leaf->lock);
	/* Not possible: a gigabyte with pages that are not there is walked in the stop. */
	if (WARN_ON_ONCE(step != FF_STEP_NEXT))
		WRITE_ONCE(lazy->lost, true);
}

static int ff_gib_open_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	if (walk->shared)
		ff_protect_table(walk->space->mm, pmdp, addr, end);
	else
		ff_gib_open_leaf(walk, pmdp, addr, end, false);
	return 0;
}

static int ff_gib_open_huge(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	if (!walk->shared)
		ff_gib_open_leaf(walk, pmdp, addr, end, true);
	else if (!ff_protect_huge(walk->space->mm, pmdp))
		ff_protect_table(walk->space->mm, pmdp, addr, end);
	return 0;
}

static const struct ff_walk_ops ff_gib_open_ops = {
	.table = ff_gib_open_table,
	.huge = ff_gib_open_huge,
};

/* By the VMAs of the stop: the caller may hold no lock that keeps those of now, and none of them has changed here. */
static void ff_gib_open_one(struct ff_lazy *lazy, struct ff_gib *gib)
{
	struct ff_walk walk = { .space = lazy->space, .ops = &ff_gib_open_ops };
	unsigned long start = gib->addr, end = gib->addr + PUD_SIZE;
	u32 index;

	spin_lock(&gib->lock);
	if (gib->state != FF_GIB_ARMED)
		goto unlock;
	for (index = ff_space_find_vma(lazy->space, start); index < lazy->space->vma_count; index++) {
		struct ff_vma *vma = &lazy->space->vmas[index];

		if (vma->image.start >= end)
			break;
		walk.shared = ff_vma_is_shared_lazily(vma);
		if (vma->private || walk.shared)
			ff_walk_range(&walk, max_t(unsigned long, start, vma->image.start),
				      min_t(unsigned long, end, vma->image.end));
	}
	set_bit(_PAGE_BIT_RW, (unsigned long *)gib->pudp);
	gib->state = FF_GIB_OPENED;
unlock:
	spin_unlock(&gib->lock);
}

bool ff_gib_open(struct ff_lazy *lazy, unsigned long start, unsigned long end)
{
	struct ff_gib *gib;
	unsigned long index;
	bool any = false;

	xa_for_each_range(&lazy->gibs, index, gib, start >> PUD_SHIFT, (end - 1) >> PUD_SHIFT)
	{
		if (READ_ONCE(gib->state) != FF_GIB_ARMED)
			continue;
		ff_gib_open_one(lazy, gib);
		any = true;
	}
	return any;
}

/* ---- the end ----------------------------------------------------------- */

void ff_gib_disarm(struct ff_lazy *lazy)
{
	struct ff_gib *gib;
	unsigned long index;

	xa_for_each(&lazy->gibs, index, gib)
	{
		spin_lock(&gib->lock);
		if (gib->state == FF_GIB_ARMED)
			set_bit(_PAGE_BIT_RW, (unsigned long *)gib->pudp);
		gib->state = FF_GIB_OPENED;
		spin_unlock(&gib->lock);
	}
}

void ff_gib_free(struct ff_lazy *lazy)
{
	struct ff_gib *gib;
	unsigned long index;

	xa_for_each(&lazy->gibs, index, gib) kfree(gib);
	xa_destroy(&lazy->gibs);
}
