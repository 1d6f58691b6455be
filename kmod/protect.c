// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "protect.h"

#include <linux/mm.h>
#include <linux/pgtable.h>

#include "test.h"
#include "walk.h"

void ff_protect_table(struct mm_struct *mm, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	pmd_t pmd = READ_ONCE(*pmdp);
	spinlock_t *lock = pte_lockptr(mm, &pmd);
	pte_t *ptep = pte_offset_kernel(&pmd, addr), *last = ptep + ((end - addr) >> PAGE_SHIFT);

	if (ff_test_skips_arm())
		return;
	spin_lock(lock);
	for (; ptep < last; ptep++) {
		pte_t pte = ptep_get(ptep);

		if (likely(ff_pte_is_warm(pte)))
			ff_pte_wrprotect_warm(ptep, pte);
		else if (pte_present(pte) && pte_write(pte))
			ff_pte_wrprotect(ptep, pte);
	}
	spin_unlock(lock);
}

bool ff_protect_huge(struct mm_struct *mm, pmd_t *pmdp)
{
	spinlock_t *lock = pmd_lock(mm, pmdp);
	pmd_t pmd = READ_ONCE(*pmdp);
	/* Under migration there is nothing to protect: what it restores is known by try_to_migrate(). */
	bool huge = !pmd_present(pmd) || pmd_trans_huge(pmd);

	if (pmd_present(pmd) && huge && pmd_write(pmd) && !ff_test_skips_arm())
		ff_pmd_wrprotect(pmdp, pmd);
	spin_unlock(lock);
	return huge;
}
