// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The second half of leaf.h: holding what is armed, and handing it over. */
#include "leaf.h"

#include <linux/highmem.h>
#include <linux/mm.h>

#include "compat.h"
#include "test.h"

/* A page to copy to: in the stop one that was reserved, elsewhere one from the allocator's own reserves. */
static struct page *ff_leaf_new_page(struct ff_pages *spare)
{
	if (spare)
		return ff_pages_take_spare(spare);
	return ff_test_has_no_memory() ? NULL : alloc_page(GFP_ATOMIC | __GFP_NOWARN);
}

/* Copies pages that cannot be shared. Nobody has written to them since the stop, or they were not armed any more. */
static bool ff_leaf_copy(struct ff_leaf *leaf, u32 index, u32 count, struct page *page, struct ff_pages *spare)
{
	u32 made;

	for (made = 0; made < count; made++) {
		leaf->pages[index + made] = ff_leaf_new_page(spare);
		if (!leaf->pages[index + made])
			goto err_free;
	}
	for (made = 0; made < count; made++)
		copy_highpage(leaf->pages[index + made], page + made);
	bitmap_set(leaf->copied, index, count);
	bitmap_set(leaf->held, index, count);
	return true;

err_free:
	while (made--)
		__free_page(leaf->pages[index + made]);
	return false;
}

/* Does the stop go on? The caller's pass says so by its spare pages, but others come meanwhile: reclaim, for one. */
static bool ff_leaf_in_stop(const struct ff_lazy *lazy, const struct ff_pages *spare)
{
	return spare || !READ_ONCE(lazy->settled);
}

/*
 * In the stop, every reference that is not accounted for may be a device's that writes. Afterwards a page that was not
 * in use then can only be pinned for reading; a COW would still part the pin from the process, as fork() would.
 */
static bool ff_leaf_is_in_use(struct ff_lazy *lazy, struct folio *folio, int explained, struct ff_pages *spare)
{
	if (ff_leaf_in_stop(lazy, spare))
		return ff_folio_in_use(folio, explained);
	if (ff_test_copies())
		return true;
	smp_mb__after_atomic(); /* ClearPageAnonExclusive(); pairs with gup_must_unshare() */
	return test_bit(MMF_HAS_PINNED, &lazy->mm->flags) && folio_maybe_dma_pinned(folio);
}

/* Is an armed entry as it was armed, as far as one can tell? Nothing else says that its page is still the same. */
static bool ff_pte_is_armed(pte_t pte)
{
	return pte_present(pte) && !pte_special(pte) && !pte_devmap(pte) && (!pte_write(pte) || ff_test_may_write());
}

/* Does the page table that was armed still stand there, or the huge page? Else it may have been freed. */
static bool ff_leaf_is_there(const struct ff_leaf *leaf)
{
	pmd_t pmd = READ_ONCE(*leaf->pmdp);

	if (!pmd_present(pmd) || pmd_pfn(pmd) != pmd_pfn(leaf->pmd) || pmd_trans_huge(pmd) != leaf->huge)
		return false;
	return !leaf->huge || !pmd_write(pmd) || ff_test_may_write();
}

/*
 * Copies pages that are in use, or says why they are not copied: FF_STEP_SHARE is to share them all the same. Reclaim
 * takes a reference before it unmaps a page. In the stop it gets the page, as in a memory cgroup that is full it may
 * have nothing else to get, and the take brings in what is in swap; but where there is no memory for the copy, the page
 * is held as it is. That is sound for all but the suspects, which a device may write to.
 */
static enum ff_step ff_leaf_part(struct ff_lazy *lazy, struct ff_leaf *leaf, u32 index, u32 count, struct page *page,
				 struct ff_pages *spare)
{
	if (ff_leaf_copy(leaf, index, count, page, spare))
		return FF_STEP_NEXT;
	if (spare)
		return FF_STEP_NEED_SPARE;
	if (ff_leaf_in_stop(lazy, spare) && find_next_bit(leaf->suspect, index + count, index) == index + count)
		return FF_STEP_SHARE;
	WRITE_ONCE(lazy->lost, true);
	return FF_STEP_NEXT;
}

/* In the stop, it is armed again. */
static enum ff_step ff_leaf_changed(struct ff_lazy *lazy, const struct ff_leaf *leaf, u32 index,
				    const struct ff_pages *spare)
{
	if (spare)
		return FF_STEP_CHANGED;
	WRITE_ONCE(lazy->changed, leaf->addr + index * PAGE_SIZE);
	return FF_STEP_NEXT;
}

/*
 * Has the entry changed since it was held last? From here on it has not. Only of what cannot be written to: then the
 * CPU sets no bit but that of access, and a locked instruction loses none.
 */
static bool ff_entry_is_clean(const struct ff_lazy *lazy, unsigned long *entry)
{
	if (!lazy->track || (READ_ONCE(*entry) & _PAGE_RW))
		return false;
	return !(READ_ONCE(*entry) & _PAGE_SOFT_DIRTY) || !test_and_clear_bit(_PAGE_BIT_SOFT_DIRTY, entry);
}

/* Under the page table's lock. */
static enum ff_step ff_leaf_hold(struct ff_lazy *lazy, struct ff_leaf *leaf, u32 index, pte_t *ptep,
				 struct ff_pages *spare, struct ff_large *large)
{
	pte_t pte = ptep_get(ptep);
	struct folio *folio;
	struct page *page;
	enum ff_step step;
	int explained = 1;

	if (unlikely(!ff_pte_is_armed(pte))) {
		__clear_bit(index, leaf->armed);
		return ff_leaf_changed(lazy, leaf, index, spare);
	}
	page = ff_private_page(pte);
	if (!page)
		goto done;
	folio = page_folio(page);
	if (ff_leaf_in_stop(lazy, spare) && unlikely(folio_test_large(folio))) {
		ff_large_meet(large, folio);
		explained = large->mapped + large->held;
	}
	/* Tests hold what can be written to, too; the kernel asserts that such a page stays exclusive. */
	if (PageAnonExclusive(page) && likely(!pte_write(pte))) {
		ClearPageAnonExclusive(page);
		if (unlikely(ff_leaf_is_in_use(lazy, folio, explained, spare))) {
			step = ff_leaf_part(lazy, leaf, index, 1, page, spare);
			if (step != FF_STEP_SHARE) {
				SetPageAnonExclusive(page);
				if (step != FF_STEP_NEXT)
					return step;
				goto done;
			}
		}
	}
	folio_get(folio);
	large->held++;
	leaf->pages[index] = page;
	__set_bit(index, leaf->held);
	if (ff_entry_is_clean(lazy, (unsigned long *)ptep))
		__set_bit(index, leaf->clean);
done:
	__clear_bit(index, leaf->armed);
	return FF_STEP_NEXT;
}

static enum ff_step ff_leaf_hold_huge(struct ff_lazy *lazy, struct ff_leaf *leaf, enum ff_path path,
				      struct ff_pages *spare)
{
	spinlock_t *lock = pmd_lock(lazy->mm, leaf->pmdp);
	struct page *head = pmd_page(leaf->pmd);
	struct folio *folio = page_folio(head);
	enum ff_step step = FF_STEP_NEXT;
	u32 index;

	if (unlikely(!ff_leaf_is_there(leaf))) {
		bitmap_zero(leaf->armed, PTRS_PER_PTE);
		step = ff_leaf_changed(lazy, leaf, 0, spare);
		goto unlock;
	}
	if (!PageAnon(head)) { /* the huge zero page, or a file's */
		bitmap_zero(leaf->armed, PTRS_PER_PTE);
		goto unlock;
	}
	if (PageAnonExclusive(head) && likely(!pmd_write(*leaf->pmdp))) {
		ClearPageAnonExclusive(head);
		if (unlikely(ff_leaf_is_in_use(lazy, folio, 1, spare))) {
			step = ff_leaf_part(lazy, leaf, 0, HPAGE_PMD_NR, head, spare);
			if (step != FF_STEP_SHARE) {
				SetPageAnonExclusive(head);
				if (step != FF_STEP_NEXT)
					goto unlock;
				goto done;
			}
			step = FF_STEP_NEXT;
		}
	}
	/* The references of its parts are its own. */
	folio_ref_add(folio, HPAGE_PMD_NR);
	for (index = 0; index < HPAGE_PMD_NR; index++)
		leaf->pages[index] = head + index;
	bitmap_fill(leaf->held, PTRS_PER_PTE);
	if (ff_entry_is_clean(lazy, (unsigned long *)leaf->pmdp))
		bitmap_fill(leaf->clean, PTRS_PER_PTE);
	leaf->held_huge = true;
done:
	bitmap_zero(leaf->armed, PTRS_PER_PTE);
	leaf->finalized[path] += HPAGE_PMD_NR;
unlock:
	spin_unlock(lock);
	return step;
}

/* Holds those of @wanted that are armed, from @first to @last. */
static enum ff_step ff_leaf_hold_some(struct ff_lazy *lazy, struct ff_leaf *leaf, const unsigned long *wanted,
				      u32 first, u32 last, enum ff_path path, struct ff_pages *spare)
{
	struct ff_large large = {};
	enum ff_step step = FF_STEP_NEXT;
	spinlock_t *lock;
	pte_t *ptep;
	u32 index;

	index = find_next_and_bit(wanted, leaf->armed, last, first);
	if (index >= last)
		return FF_STEP_NEXT;
	/* Something is armed, so the page table is there. */
	if (leaf->huge)
		return ff_leaf_hold_huge(lazy, leaf, path, spare);
	/* Nobody takes the table away in the stop, so that it could be armed again. */
	if (unlikely(!ff_leaf_is_there(leaf))) {
		bitmap_zero(leaf->armed, PTRS_PER_PTE);
		WRITE_ONCE(lazy->changed, leaf->addr);
		return FF_STEP_NEXT;
	}
	lock = pte_lockptr(lazy->mm, &leaf->pmd);
	ptep = pte_offset_kernel(&leaf->pmd, leaf->addr);
	spin_lock(lock);
	while (index < last) {
		step = ff_leaf_hold(lazy, leaf, index, ptep + index, spare, &large);
		if (step != FF_STEP_NEXT)
			break;
		leaf->finalized[path]++;
		index = find_next_and_bit(wanted, leaf->armed, last, index + 1);
	}
	spin_unlock(lock);
	return step;
}

enum ff_step ff_leaf_finalize(struct ff_lazy *lazy, struct ff_leaf *leaf, unsigned long start, unsigned long end,
			      enum ff_path path, struct ff_pages *spare)
{
	u32 first = ff_leaf_index(leaf, start), last = ff_leaf_index(leaf, end);

	return ff_leaf_hold_some(lazy, leaf, leaf->armed, first, last, path, spare);
}

void ff_leaf_disarm(struct ff_leaf *leaf, unsigned long start, unsigned long end)
{
	bitmap_clear(leaf->armed, ff_leaf_index(leaf, start), (end - start) >> PAGE_SHIFT);
}

enum ff_step ff_leaf_settle(struct ff_lazy *lazy, struct ff_leaf *leaf, struct ff_pages *spare)
{
	return ff_leaf_hold_some(lazy, leaf, leaf->suspect, 0, PTRS_PER_PTE, FF_PATH_STOP, spare);
}

/* Does a fault at @pte, armed, change no other entry? A NUMA hinting fault maps all of a large folio anew. */
static bool ff_fault_stays(pte_t pte)
{
	return pte_present(pte) && !pte_protnone(pte) && !PageCompound(pfn_to_page(pte_pfn(pte)));
}

void ff_leaf_finalize_fault(struct ff_lazy *lazy, struct ff_leaf *leaf, unsigned long addr)
{
	u32 index = ff_leaf_index(leaf, addr);
	pte_t *ptep;

	if (!test_bit(index, leaf->armed))
		return;
	ptep = leaf->huge || !ff_leaf_is_there(leaf) ? NULL : pte_offset_kernel(&leaf->pmd, leaf->addr) + index;
	if (ptep && ff_fault_stays(ptep_get(ptep)))
		ff_leaf_hold_some(lazy, leaf, leaf->armed, index, index + 1, FF_PATH_FAULT, NULL);
	else
		ff_leaf_hold_some(lazy, leaf, leaf->armed, 0, PTRS_PER_PTE, FF_PATH_FAULT, NULL);
}

/* ---- handing over ------------------------------------------------------ */

void ff_leaf_collect(struct ff_leaf *leaf, unsigned long start, unsigned long end, u32 clean_flags,
		     struct ff_pages *pages)
{
	unsigned long addr;

	for (addr = start; addr < end; addr += PAGE_SIZE) {
		u32 index = ff_leaf_index(leaf, addr);

		if (test_bit(index, leaf->unreadable))
			ff_pages_push_unreadable(pages, addr);
		else if (!__test_and_clear_bit(index, leaf->held))
			continue;
		else if (test_bit(index, leaf->copied))
			ff_pages_push(pages, addr, leaf->pages[index], FF_RUN_COPIED);
		else
			ff_pages_push_once(pages, addr, leaf->pages[index],
					   test_bit(index, leaf->clean) ? clean_flags : 0);
	}
}
