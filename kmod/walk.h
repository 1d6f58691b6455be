/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The walk over the page tables of an address space: where private pages can be, and what to do there. */
#ifndef FF_WALK_H
#define FF_WALK_H

#include <linux/pgtable.h>

#include "snapshot.h"
#include "use.h"

struct ff_walk;

/* What is done at each entry of the third level. Both take the range within it; an error ends the walk. */
struct ff_walk_ops {
	/* @pmdp points to a page table. */
	int (*table)(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end);
	/* @pmdp maps a huge page, or is not present (a huge page under migration). */
	int (*huge)(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end);
	/* Optional, at each gigabyte that has a table: 1 when it is dealt with, 0 to go on below. */
	int (*gib)(struct ff_walk *walk, pud_t *pudp, unsigned long addr, unsigned long end);
	bool may_sleep; /* outside the stop: let others run between the gigabytes */
};

/* What the work at one entry comes to. */
enum ff_step {
	FF_STEP_NEXT,	    /* go on */
	FF_STEP_BRING_IN,   /* not present: bring it in, and look again */
	FF_STEP_NEED_SPARE, /* in use, and no page is left to copy it to */
	FF_STEP_SPLIT,	    /* became a page table meanwhile: look again */
	FF_STEP_CHANGED,    /* is not as it was armed: look again */
	FF_STEP_SHARE,	    /* in use, but it may be held all the same */
};

/* What counting adds up. */
struct ff_walk_totals {
	u64 pages; /* private pages, and swapped ones */
	u32 vmas;
};

struct ff_walk {
	struct ff_snapshot *snap;
	struct ff_space *space;
	struct vm_area_struct *vma;
	const struct ff_walk_ops *ops;
	bool shared; /* of a shared file: entries are write-protected, and nothing is noted of them */
	struct ff_walk_totals totals;
	struct ff_large large;
	unsigned long armed_start, armed_end; /* the gigabyte that was armed last: nothing is left to do in it */
	u32 rehearsed;			      /* page tables that ff_arm_rehearse() looked at */
	struct folio *scanned;		      /* the large folio met last by ff_lazy_scan_page(), */
	bool scanned_in_use;		      /* and whether it is in use */
};

/* Only VMAs with an anon_vma have private pages. */
static inline bool ff_vma_has_private(const struct vm_area_struct *vma)
{
	return vma->anon_vma && !(vma->vm_flags & VM_SHARED);
}

/*
 * A private page at @pte, or NULL: the zero page, a file's page, a device's. What has no struct page is special:
 * vm_normal_page() relies on that, too.
 */
static __always_inline struct page *ff_private_page(pte_t pte)
{
	struct page *page;

	if (unlikely(pte_special(pte) || pte_devmap(pte)))
		return NULL;
	page = pfn_to_page(pte_pfn(pte));
	return PageAnon(page) ? page : NULL;
}

/*
 * The common case: writable, accessed and dirty; of private memory, changed as well, see track.h. The CPU has nothing
 * left to write to such an entry, so no locked instruction is needed; and as we are no Xen PV guest, which has the
 * kernel ask for every access, a plain store does.
 */
#define FF_PTE_WARM (_PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY)
#define FF_PTE_WARM_MASK (FF_PTE_WARM | FF_WRPROTECT_DIRTY | _PAGE_SPECIAL | _PAGE_DEVMAP)

#define FF_PTE_WARM_PRIVATE (FF_PTE_WARM | _PAGE_SOFT_DIRTY)
#define FF_PTE_WARM_PRIVATE_MASK (FF_PTE_WARM_MASK | _PAGE_SOFT_DIRTY)

static __always_inline bool ff_pte_is_warm(pte_t pte)
{
	return (native_pte_val(pte) & FF_PTE_WARM_MASK) == FF_PTE_WARM;
}

static __always_inline bool ff_pte_is_warm_private(pte_t pte)
{
	return (native_pte_val(pte) & FF_PTE_WARM_PRIVATE_MASK) == FF_PTE_WARM_PRIVATE;
}

static __always_inline void ff_pte_wrprotect_warm(pte_t *ptep, pte_t pte)
{
	WRITE_ONCE(ptep->pte, native_pte_val(pte) ^ FF_WRPROTECT_DIRTY);
}

/*
 * What ptep_set_wrprotect() does, but it returns what the entry was: the CPU may set bits in it until it is done, and
 * none of them may be lost where the entry is put back. Whatever could be written to counts as changed.
 */
static __always_inline pte_t ff_pte_wrprotect(pte_t *ptep, pte_t pte)
{
	pte_t fresh;

	do {
		fresh = pte_mksoft_dirty(pte_wrprotect(pte));
	} while (!try_cmpxchg((long *)ptep, (long *)&pte, *(long *)&fresh));
	return pte;
}

static inline pmd_t ff_pmd_wrprotect(pmd_t *pmdp, pmd_t pmd)
{
	pmd_t fresh;

	do {
		fresh = pmd_mksoft_dirty(pmd_wrprotect(pmd));
	} while (!try_cmpxchg((long *)pmdp, (long *)&pmd, *(long *)&fresh));
	return pmd;
}

/* Walks the part of one VMA. mmap_lock held, or else nobody can take the page tables away. */
int ff_walk_range(struct ff_walk *walk, unsigned long addr, unsigned long end);
/* Walks walk->vma. */
int ff_walk_vma(struct ff_walk *walk);
/*
 * Brings a page in that is swapped or under migration. The caller's mmap_lock serves, and no lock is dropped on the
 * way. 1: unreadable for good (poisoned).
 */
int ff_walk_bring_in(struct ff_walk *walk, unsigned long addr);
int ff_walk_out_of_memory(struct ff_walk *walk);
/* Counts what arming will hold and brings in what is swapped. mmap_lock held for reading. */
int ff_walk_count(struct ff_snapshot *snap, struct ff_space *space, struct ff_walk_totals *totals);

#endif
