/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Write-protecting the entries that map shared memory: nothing is to be noted of them (shared.h). */
#ifndef FF_PROTECT_H
#define FF_PROTECT_H

#include <linux/mm_types.h>

void ff_protect_table(struct mm_struct *mm, pmd_t *pmdp, unsigned long addr, unsigned long end);
/* False: it is a page table by now. */
bool ff_protect_huge(struct mm_struct *mm, pmd_t *pmdp);

#endif
