// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The first half of leaf.h: arming. */
#include "leaf.h"

#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "test.h"

struct ff_leaf *ff_leaf_new(unsigned long addr, gfp_t gfp)
{
	struct ff_leaf *leaf = kzalloc(sizeof(*leaf), gfp);

	if (!leaf)
		return NULL;
	leaf->pages = (struct page **)__get_free_page(gfp);
	if (!leaf->pages) {
		kfree(leaf);
		return NULL;
	}
	spin_lock_init(&leaf->lock);
	leaf->addr = addr & PMD_MASK;
	return leaf;
}

void ff_leaf_free(struct ff_leaf *leaf)
{
	u32 index;

	for_each_set_bit(index, leaf->held, PTRS_PER_PTE)
		put_page(leaf->pages[index]);
	free_page((unsigned long)leaf->pages);
	kfree(leaf);
}

/* One entry of any kind. *@armed: whether there is a page to be held. */
static noinline enum ff_step ff_leaf_arm_one(struct ff_leaf *leaf, u32 index, pte_t *ptep, bool *armed)
{
	pte_t pte = ptep_get(ptep);

	*armed = false;
	if (pte_none(pte))
		return FF_STEP_NEXT;
	if (!pte_present(pte)) {
		bool nothing = is_pte_marker(pte) && !ff_pte_is_lost(pte);

		return nothing || test_bit(index, leaf->unreadable) ? FF_STEP_NEXT : FF_STEP_BRING_IN;
	}
	/* What has no struct page, nobody holds; whether the others are private is asked later. */
	if (pte_special(pte) || pte_devmap(pte))
		return FF_STEP_NEXT;
	if (pte_write(pte) && !ff_test_skips_arm())
		ff_pte_wrprotect(ptep, pte);
	*armed = true;
	return FF_STEP_NEXT;
}

enum ff_four {
	FF_FOUR_WARM,  /* and write-protected now */
	FF_FOUR_NONE,  /* no entry has anything */
	FF_FOUR_MIXED, /* to be looked at one by one */
};

/* Four entries at once: most tables are full of warm ones, and those of stacks and arenas of empty ones. */
static __always_inline enum ff_four ff_leaf_arm_four(pte_t *ptep)
{
	pteval_t a = READ_ONCE(ptep[0].pte), b = READ_ONCE(ptep[1].pte);
	pteval_t c = READ_ONCE(ptep[2].pte), d = READ_ONCE(ptep[3].pte);
	/* A bit that one of them has otherwise than a warm entry. */
	pteval_t odd = (a ^ FF_PTE_WARM_PRIVATE) | (b ^ FF_PTE_WARM_PRIVATE) | (c ^ FF_PTE_WARM_PRIVATE) |
		       (d ^ FF_PTE_WARM_PRIVATE);

	if (unlikely(odd & FF_PTE_WARM_PRIVATE_MASK) || ff_test_skips_arm())
		return a | b | c | d ? FF_FOUR_MIXED : FF_FOUR_NONE;
	WRITE_ONCE(ptep[0].pte, a ^ FF_WRPROTECT_DIRTY);
	WRITE_ONCE(ptep[1].pte, b ^ FF_WRPROTECT_DIRTY);
	WRITE_ONCE(ptep[2].pte, c ^ FF_WRPROTECT_DIRTY);
	WRITE_ONCE(ptep[3].pte, d ^ FF_WRPROTECT_DIRTY);
	return FF_FOUR_WARM;
}

/* Up to 64 entries, from @index on: one word of the bitmap. This loop is most of the window: it is to stay short. */
static enum ff_step ff_leaf_arm_word(struct ff_leaf *leaf, u32 *index, u32 last, pte_t *table)
{
	unsigned long *word = &leaf->armed[*index / BITS_PER_LONG];
	unsigned long armed = GENMASK((last - 1) % BITS_PER_LONG, *index % BITS_PER_LONG);
	enum ff_step step = FF_STEP_NEXT;
	pte_t *ptep = table + *index, *end = table + last;
	bool held;

	for (;;) {
		for (; end - ptep >= 4; ptep += 4) {
			enum ff_four four = ff_leaf_arm_four(ptep);

			if (likely(four == FF_FOUR_WARM))
				continue;
			if (four == FF_FOUR_MIXED)
				break;
			armed &= ~(0xful << (ptep - table) % BITS_PER_LONG);
		}
		if (ptep == end)
			break;
		step = ff_leaf_arm_one(leaf, ptep - table, ptep, &held);
		if (step != FF_STEP_NEXT)
			break;
		if (!held)
			__clear_bit((ptep - table) % BITS_PER_LONG, &armed);
		ptep++;
	}
	*index = ptep - table;
	if (step != FF_STEP_NEXT)
		armed &= BIT(*index % BITS_PER_LONG) - 1;
	/* A second try, for want of a spare page to copy to, finds some of them held. */
	*word |= armed & ~leaf->held[word - leaf->armed];
	return step;
}

/* Within one page: emulators are half as fast where a loop crosses from one to the next. */
__aligned(1024) enum ff_step
	ff_leaf_arm(struct ff_lazy *lazy, struct ff_leaf *leaf, pmd_t *pmdp, unsigned long *addr, unsigned long end)
{
	pmd_t pmd = READ_ONCE(*pmdp);
	spinlock_t *lock = pte_lockptr(lazy->mm, &pmd);
	pte_t *table = pte_offset_kernel(&pmd, leaf->addr);
	u32 index = ff_leaf_index(leaf, *addr), last = index + ((end - *addr) >> PAGE_SHIFT);
	enum ff_step step = FF_STEP_NEXT;

	leaf->pmdp = pmdp;
	leaf->pmd = pmd;
	leaf->huge = false;
	spin_lock(lock);
	while (index < last && step == FF_STEP_NEXT)
		step = ff_leaf_arm_word(leaf, &index, min_t(u32, last, round_up(index + 1, BITS_PER_LONG)), table);
	spin_unlock(lock);
	*addr = leaf->addr + index * PAGE_SIZE;
	return step;
}

enum ff_step ff_leaf_arm_huge(struct ff_lazy *lazy, struct ff_leaf *leaf, pmd_t *pmdp)
{
	spinlock_t *lock = pmd_lock(lazy->mm, pmdp);
	enum ff_step step = FF_STEP_NEXT;
	pmd_t pmd = READ_ONCE(*pmdp);

	if (pmd_none(pmd))
		goto unlock;
	if (!pmd_present(pmd)) {
		step = FF_STEP_BRING_IN;
		goto unlock;
	}
	if (!pmd_trans_huge(pmd)) {
		step = FF_STEP_SPLIT;
		goto unlock;
	}
	leaf->pmdp = pmdp;
	leaf->pmd = pmd;
	leaf->huge = true;
	if (pmd_write(pmd) && !ff_test_skips_arm())
		ff_pmd_wrprotect(pmdp, pmd);
	bitmap_fill(leaf->armed, PTRS_PER_PTE);
unlock:
	spin_unlock(lock);
	return step;
}
