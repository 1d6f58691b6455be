// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "walk.h"

#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "lazy.h"
#include "test.h"

int ff_walk_out_of_memory(struct ff_walk *walk)
{
	return ff_fail(walk->snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
}

int ff_walk_bring_in(struct ff_walk *walk, unsigned long addr)
{
	struct ff_counts *counts = &walk->snap->take->counts;
	struct page *page;
	long got = ff_get_user_page(walk->space->mm, addr, &page);

	if (got == 1) {
		put_page(page);
		if (walk->ops->may_sleep)
			counts->pages_prefaulted++;
		else
			counts->pages_swapped_in++;
		return 0;
	}
	if (got == -EHWPOISON)
		return 1;
	if (got == -ENOMEM)
		return ff_walk_out_of_memory(walk);
	if (fatal_signal_pending(current))
		return ff_fail(walk->snap, -EINTR, FF_REASON_INTERRUPTED, -1, addr);
	return ff_fail(walk->snap, -EIO, FF_REASON_SWAP_IN, -1, addr);
}

static int ff_walk_pmds(struct ff_walk *walk, pud_t *pud, unsigned long addr, unsigned long end)
{
	unsigned long next;
	int err = 0;

	for (; addr < end && !err; addr = next) {
		pmd_t *pmdp = pmd_offset(pud, addr);
		pmd_t pmd = READ_ONCE(*pmdp);

		next = pmd_addr_end(addr, end);
		if (pmd_none(pmd))
			continue;
		if (pmd_trans_huge(pmd) || !pmd_present(pmd))
			err = walk->ops->huge(walk, pmdp, addr, next);
		else if (!pmd_devmap(pmd) && !pmd_bad(pmd))
			err = walk->ops->table(walk, pmdp, addr, next);
	}
	return err;
}

int ff_walk_range(struct ff_walk *walk, unsigned long addr, unsigned long end)
{
	unsigned long next;
	int err = 0;

	for (; addr < end && !err; addr = next) {
		pgd_t *pgd = pgd_offset(walk->space->mm, addr);
		p4d_t *p4d;
		pud_t *pud;

		next = pud_addr_end(addr, end);
		if (pgd_none(*pgd) || pgd_bad(*pgd))
			continue;
		p4d = p4d_offset(pgd, addr);
		if (p4d_none(*p4d) || p4d_bad(*p4d))
			continue;
		pud = pud_offset(p4d, addr);
		/* A huge or device PUD is hugetlb (refused before) or device memory (not ours). */
		if (pud_none(*pud) || pud_bad(*pud))
			continue;
		if (walk->ops->gib)
			err = walk->ops->gib(walk, pud, addr, next);
		if (!err)
			err = ff_walk_pmds(walk, pud, addr, next);
		else if (err > 0)
			err = 0;
		if (walk->ops->may_sleep)
			cond_resched();
	}
	return err;
}

int ff_walk_vma(struct ff_walk *walk)
{
	return ff_walk_range(walk, walk->vma->vm_start, walk->vma->vm_end);
}

/* ---- counting ---------------------------------------------------------- */

static int ff_count_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	pmd_t pmd = READ_ONCE(*pmdp);
	pte_t *ptep = pte_offset_kernel(&pmd, addr);
	int err;

	walk->scanned = NULL;
	for (; addr < end; addr += PAGE_SIZE, ptep++) {
		pte_t pte = ptep_get(ptep);

		if (pte_none(pte))
			continue;
		if (pte_present(pte)) {
			struct page *page = ff_private_page(pte);

			if (page) {
				walk->totals.pages++;
				ff_lazy_scan_page(walk, addr, page);
			}
			continue;
		}
		walk->totals.pages++;
		if (ff_test_skips_prefault() || is_pte_marker(pte)) {
			ff_lazy_scan_hole(walk, addr);
			continue;
		}
		err = ff_walk_bring_in(walk, addr);
		if (err)
			ff_lazy_scan_hole(walk, addr);
		if (err == -EINTR || err == -ENOMEM)
			return err;
		/* Whatever else is wrong with the page, the stop looks again. */
		walk->snap->take->failure.reason = FF_REASON_NONE;
		cond_resched();
	}
	return 0;
}

static int ff_count_huge(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	pmd_t pmd = READ_ONCE(*pmdp);

	walk->totals.pages += (end - addr) >> PAGE_SHIFT;
	if (pmd_present(pmd) && PageAnon(pmd_page(pmd)))
		ff_lazy_scan_page(walk, addr, pmd_page(pmd));
	else if (!pmd_present(pmd))
		ff_lazy_scan_hole(walk, addr);
	return 0;
}

static const struct ff_walk_ops ff_count_ops = {
	.table = ff_count_table,
	.huge = ff_count_huge,
	.may_sleep = true,
};

int ff_walk_count(struct ff_snapshot *snap, struct ff_space *space, struct ff_walk_totals *totals)
{
	struct ff_walk walk = { .snap = snap, .space = space, .ops = &ff_count_ops };
	VMA_ITERATOR(vmi, space->mm, 0);
	int err = 0;

	for_each_vma(vmi, walk.vma) {
		walk.totals.vmas++;
		if (ff_vma_has_private(walk.vma))
			err = ff_walk_vma(&walk);
		if (err)
			break;
	}
	*totals = walk.totals;
	return err;
}
