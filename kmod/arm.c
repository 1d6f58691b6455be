// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * EAGER arming. What fork() does to the parent's page tables, without a child: per private page take a
 * reference, clear PageAnonExclusive, write-protect. The next write faults into do_wp_page(), finds a page
 * that somebody else holds, and copies: the original stays ours.
 */
#include "arm.h"

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/smp.h>
#include <asm/tlbflush.h>

#include "compat.h"
#include "gib.h"
#include "lazy.h"
#include "shared.h"
#include "test.h"
#include "use.h"
#include "walk.h"

/* Copies a page that is in use: it cannot be made copy-on-write. */
static bool ff_copy_in_use(struct ff_walk *walk, unsigned long addr, struct page *page)
{
	struct page *copy = ff_pages_take_spare(&walk->snap->pages);

	if (!copy)
		return false;
	copy_highpage(copy, page);
	ff_pages_push(&walk->snap->pages, addr, copy, FF_RUN_COPIED);
	walk->snap->take->counts.pages_copied++;
	walk->space->copied_pages++;
	return true;
}

/* Under the page table's lock. Inline: in the stop, it runs once per page. */
static __always_inline enum ff_step ff_arm_pte(struct ff_walk *walk, unsigned long addr, pte_t *ptep)
{
	struct ff_pages *pages = &walk->snap->pages;
	pte_t pte = ptep_get(ptep);
	struct folio *folio;
	struct page *page;
	int explained = 1;
	bool large;

	if (pte_none(pte))
		return FF_STEP_NEXT;
	if (unlikely(!pte_present(pte))) {
		/* A marker is a note of userfaultfd's, not a page. */
		return is_pte_marker(pte) && !ff_pte_is_lost(pte) ? FF_STEP_NEXT : FF_STEP_BRING_IN;
	}
	page = ff_private_page(pte);
	if (!page)
		return FF_STEP_NEXT;
	folio = page_folio(page);
	large = folio_test_large(folio);
	if (unlikely(large)) {
		ff_large_meet(&walk->large, folio);
		explained = walk->large.mapped + walk->large.held;
	}
	if (ff_test_skips_arm())
		goto hold;
	if (likely(ff_pte_is_warm_private(pte)))
		ff_pte_wrprotect_warm(ptep, pte);
	else if (pte_write(pte))
		pte = ff_pte_wrprotect(ptep, pte);
	/* Pages of fork() and KSM are not exclusive: a write copies them as soon as we hold a reference. */
	if (PageAnonExclusive(page)) {
		ClearPageAnonExclusive(page);
		if (unlikely(ff_folio_in_use(folio, explained))) {
			SetPageAnonExclusive(page);
			set_pte(ptep, pte);
			return ff_copy_in_use(walk, addr, page) ? FF_STEP_NEXT : FF_STEP_NEED_SPARE;
		}
	}
hold:
	folio_get(folio);
	if (unlikely(large))
		walk->large.held++;
	ff_pages_push(pages, addr, page, 0);
	return FF_STEP_NEXT;
}

static int ff_arm_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	pmd_t pmd = READ_ONCE(*pmdp);
	struct ff_snapshot *snap = walk->snap;
	spinlock_t *lock = pte_lockptr(walk->space->mm, &pmd);
	pte_t *ptep = pte_offset_kernel(&pmd, addr);
	enum ff_step step;
	int err;

	while (addr < end) {
		if (ff_pages_reserve(&snap->pages, PTRS_PER_PTE, PTRS_PER_PTE))
			return ff_walk_out_of_memory(walk);
		step = FF_STEP_NEXT;
		spin_lock(lock);
		for (; addr < end; addr += PAGE_SIZE, ptep++) {
			step = ff_arm_pte(walk, addr, ptep);
			if (step != FF_STEP_NEXT)
				break;
		}
		spin_unlock(lock);
		if (step == FF_STEP_NEED_SPARE) {
			if (ff_pages_reserve_spare(&snap->pages, 16))
				return ff_walk_out_of_memory(walk);
		} else if (step == FF_STEP_BRING_IN) {
			err = ff_walk_bring_in(walk, addr);
			if (err < 0)
				return err;
			if (err) {
				ff_pages_push_unreadable(&snap->pages, addr);
				snap->take->counts.pages_unreadable++;
				addr += PAGE_SIZE;
				ptep++;
			}
		}
	}
	return 0;
}

static enum ff_step ff_copy_huge(struct ff_walk *walk, unsigned long addr, unsigned long end, struct page *page)
{
	if (walk->snap->pages.spare_count < (end - addr) >> PAGE_SHIFT)
		return FF_STEP_NEED_SPARE;
	for (; addr < end; addr += PAGE_SIZE)
		ff_copy_in_use(walk, addr, page++);
	return FF_STEP_NEXT;
}

/* Under the PMD's lock. */
static enum ff_step ff_arm_huge_locked(struct ff_walk *walk, unsigned long addr, unsigned long end, pmd_t *pmdp)
{
	struct ff_snapshot *snap = walk->snap;
	pmd_t pmd = READ_ONCE(*pmdp);
	struct page *head, *page;
	unsigned long at;

	if (pmd_none(pmd))
		return FF_STEP_NEXT;
	if (!pmd_present(pmd))
		return FF_STEP_BRING_IN;
	if (!pmd_trans_huge(pmd))
		return FF_STEP_SPLIT;
	head = pmd_page(pmd);
	if (!PageAnon(head)) /* the huge zero page, or a file's */
		return FF_STEP_NEXT;
	page = head + ((addr & ~PMD_MASK) >> PAGE_SHIFT);
	if (!ff_test_skips_arm()) {
		if (pmd_write(pmd))
			pmd = ff_pmd_wrprotect(pmdp, pmd);
		if (PageAnonExclusive(head)) {
			ClearPageAnonExclusive(head);
			if (unlikely(ff_folio_in_use(page_folio(head), 1))) {
				SetPageAnonExclusive(head);
				set_pmd(pmdp, pmd);
				return ff_copy_huge(walk, addr, end, page);
			}
		}
	}
	/* The references of its parts are its own. */
	folio_ref_add(page_folio(head), (end - addr) >> PAGE_SHIFT);
	for (at = addr; at < end; at += PAGE_SIZE)
		ff_pages_push(&snap->pages, at, page++, 0);
	snap->take->counts.huge_armed++;
	return FF_STEP_NEXT;
}

static int ff_arm_huge(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	for (;;) {
		enum ff_step step;
		spinlock_t *lock;
		int err;

		if (ff_pages_reserve(&walk->snap->pages, PTRS_PER_PTE, PTRS_PER_PTE))
			return ff_walk_out_of_memory(walk);
		lock = pmd_lock(walk->space->mm, pmdp);
		step = ff_arm_huge_locked(walk, addr, end, pmdp);
		spin_unlock(lock);
		switch (step) {
		case FF_STEP_NEXT:
			return 0;
		case FF_STEP_SPLIT:
			return ff_arm_table(walk, pmdp, addr, end);
		case FF_STEP_NEED_SPARE:
			if (ff_pages_reserve_spare(&walk->snap->pages, HPAGE_PMD_NR))
				return ff_walk_out_of_memory(walk);
			break;
		case FF_STEP_BRING_IN: /* under migration */
			err = ff_walk_bring_in(walk, addr);
			if (err < 0)
				return err;
			if (err)
				return ff_fail(walk->snap, -EIO, FF_REASON_SWAP_IN, -1, addr);
			break;
		case FF_STEP_CHANGED: /* these are LAZY's */
		case FF_STEP_SHARE:
			break;
		}
	}
}

static const struct ff_walk_ops ff_arm_ops = {
	.table = ff_arm_table,
	.huge = ff_arm_huge,
};

static void ff_flush_this_cpu(void *unused)
{
	__flush_tlb_all();
}

/* A CPU in lazy mode runs no thread of the mm, and looks at the generation before it does (switch_mm_irqs_off()). */
static bool ff_cpu_is_not_lazy(int cpu, void *unused)
{
	return !per_cpu(cpu_tlbstate_shared.is_lazy, cpu);
}

static void ff_flush_cpus(const struct cpumask *cpus)
{
	on_each_cpu_cond_mask(ff_cpu_is_not_lazy, ff_flush_this_cpu, NULL, true, cpus);
}

/*
 * flush_tlb_mm_range() is not exported. The generation makes every CPU that comes to this mm later flush;
 * those that have it loaded now flush here. One interrupt for all of them; takes are serialized, so one mask is enough.
 */
static void ff_flush_tlbs(struct ff_snapshot *snap)
{
	static struct cpumask loaded;
	u32 index;

	cpumask_clear(&loaded);
	for (index = 0; index < snap->space_count; index++) {
		struct mm_struct *mm = snap->spaces[index].mm;

		atomic64_inc(&mm->context.tlb_gen);
		cpumask_or(&loaded, &loaded, mm_cpumask(mm));
	}
	ff_flush_cpus(&loaded);
}

static int ff_arm_vma(struct ff_walk *walk, struct ff_vma *noted)
{
	struct ff_pages *pages = &walk->snap->pages;
	int err = 0;

	ff_pages_break_run(pages);
	noted->image.first_run = pages->run_count;
	walk->shared = ff_vma_is_shared_lazily(noted);
	if ((noted->private || walk->shared) &&
	    (noted->image.start < walk->armed_start || noted->image.end > walk->armed_end)) {
		u64 begin = walk->shared ? ktime_get_ns() : 0;

		err = ff_walk_range(walk, noted->image.start, noted->image.end);
		if (walk->shared)
			walk->snap->take->shared_ns += ktime_get_ns() - begin;
	}
	noted->image.run_count = pages->run_count - noted->image.first_run;
	return err;
}

static const struct ff_walk_ops *ff_space_ops(const struct ff_space *space)
{
	switch (space->arm_mode) {
	case FF_ARM_PUD:
		return &ff_gib_ops;
	case FF_ARM_LAZY:
		return &ff_lazy_ops;
	default:
		return &ff_arm_ops;
	}
}

static int ff_space_arm(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_walk walk = { .snap = snap, .space = space, .ops = ff_space_ops(space) };
	u64 begin = ktime_get_ns(), held = snap->pages.count;
	u32 index;
	int err = 0;

	/* As in fork(): GUP-fast that takes a pin meanwhile sees it and takes the slow road. */
	raw_write_seqcount_begin(&space->mm->write_protect_seq);
	for (index = 0; index < space->vma_count && !err; index++) {
		err = ff_arm_vma(&walk, &space->vmas[index]);
		if (!err && fatal_signal_pending(current))
			err = ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
	}
	raw_write_seqcount_end(&space->mm->write_protect_seq);
	space->armed_pages = snap->pages.count - held - space->copied_pages;
	snap->take->counts.pages_armed += space->armed_pages;
	space->arm_ns = ktime_get_ns() - begin;
	return err;
}

/* One after the other: helpers on idle processors were tried, and measured to be slower. */
int ff_spaces_arm(struct ff_snapshot *snap)
{
	u32 index;
	int err = 0;

	for (index = 0; index < snap->space_count && !err; index++)
		err = ff_space_arm(snap, &snap->spaces[index]);
	ff_flush_tlbs(snap);
	for (index = 0; index < snap->space_count && !err; index++) {
		struct ff_walk walk = { .snap = snap, .space = &snap->spaces[index] };

		if (walk.space->lazy)
			err = ff_lazy_settle(&walk);
	}
	return err;
}

/* ---- rehearsing -------------------------------------------------------- */

/* Of more, the first would be cold again when the stop comes. */
#define FF_REHEARSED_TABLES 1024

static int ff_rehearse_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	pmd_t pmd = READ_ONCE(*pmdp);

	if (walk->space->lazy)
		ff_lazy_rehearse(walk->space->lazy, addr);
	if (pmd_present(pmd) && !pmd_trans_huge(pmd))
		ptep_get(pte_offset_kernel(&pmd, addr));
	return ++walk->rehearsed == FF_REHEARSED_TABLES;
}

static int ff_rehearse_gib(struct ff_walk *walk, pud_t *pudp, unsigned long addr, unsigned long end)
{
	return walk->space->arm_mode == FF_ARM_PUD && ff_gib_rehearse(walk->space->lazy, addr);
}

static const struct ff_walk_ops ff_rehearse_ops = {
	.table = ff_rehearse_table,
	.huge = ff_rehearse_table,
	.gib = ff_rehearse_gib,
};

void ff_arm_rehearse(struct ff_snapshot *snap, struct ff_space *space, u32 *tables)
{
	struct ff_walk walk = { .snap = snap, .space = space, .ops = &ff_rehearse_ops, .rehearsed = *tables };
	u32 index;

	rcu_read_lock(); /* page tables of shared files may be freed under us, but not at once */
	for (index = 0; index < space->vma_count && walk.rehearsed < FF_REHEARSED_TABLES; index++) {
		struct ff_vma *noted = &space->vmas[index];

		if (noted->private || noted->shared)
			ff_walk_range(&walk, noted->image.start, noted->image.end);
	}
	rcu_read_unlock();
	*tables = walk.rehearsed;
	ff_flush_cpus(cpu_none_mask);
}
