/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Which pages have changed since the last snapshot: the kernel's own soft-dirty bits. Holding a page clears its bit;
 * the entry is write-protected then, and whatever makes it writable again sets the bit (pte_mkdirty()), or keeps it
 * (swap, migration). So the bit of an armed entry says whether its page changed since the snapshot that last held it,
 * and costs nobody anything in between. What makes this sound:
 *
 *   The kernel keeps to that only in a VMA without VM_SOFTDIRTY (vma_soft_dirty_enabled()). New VMAs have the flag, and
 *   those that grow get it again. The stop takes it away, and trusts the bits only where it was away already.
 *   When one that has it and one that lacks it become one, it may be lost (mprotect_fixup() and others). Seen
 * beforehand, nothing is known of the whole process any more. In a VMA with the flag, the kernel may map a page
 * writable without the bit (do_swap_page() of 6.12): arming sets it. Pages that are copied, because somebody else
 * writes to them, keep the bit: they count as changed every time. A page is compared with nothing but the very last
 * snapshot of its address space, which is noted here. Some put another page in place of one, and set no bit: KSM
 * (replace_page(), and FAULT_FLAG_UNSHARE undoes it), uprobes (__replace_page()), userfaultfd's moves of what is in
 * swap (move_swap_pte()), and mremap() where it moves whole page tables (move_normal_pmd()). trackhook.c sees all four,
 * and what it sees counts as changed.
 *
 * Others use the bits as well (CRIU, by /proc/PID/clear_refs), and one would spoil it for the other. They take the flag
 * from all VMAs, we from those that have private memory alone: where another VMA lacks it, the process is theirs, and
 * we leave it to them for good.
 */
#ifndef FF_TRACK_H
#define FF_TRACK_H

#include "snapshot.h"

/* Before the stop: from here on this is the last snapshot of the space. Sleeps. */
int ff_track_begin(struct ff_snapshot *snap, struct ff_space *space);
/* In the stop, when the VMAs are noted: takes the flag from those whose pages will be held. */
void ff_track_stop(struct ff_snapshot *snap, struct ff_space *space);
/* A snapshot that failed before it touched anything has not been there. Safe more than once. */
void ff_track_undo(struct ff_snapshot *snap, struct ff_space *space);
void ff_track_module_exit(void);

/* For trackhook.c; they sleep not. Nobody knows any more what has changed in @mm since its last snapshot. */
void ff_track_void(struct mm_struct *mm);
/* What was mapped from @from on, @bytes of it, goes to @vma. mmap_lock held for writing, here and below. */
void ff_track_move(struct vm_area_struct *vma, unsigned long from, unsigned long bytes);
/*
 * What is mapped from @start to @end gets these flags, and is joined with its neighbours where they have the same.
 * @prev is in front of it, unless it is the same VMA.
 */
void ff_track_modify(struct mm_struct *mm, struct vm_area_struct *prev, unsigned long start, unsigned long end,
		     unsigned long flags);
/* Something comes between its neighbours, and they may become one. */
void ff_track_fill(struct mm_struct *mm, unsigned long start, unsigned long end);

/* May the bits of its entries be believed? As the VMA was in the stop. */
static inline bool ff_track_trusts(const struct ff_space *space, const struct ff_vma *vma)
{
	return space->track == FF_TRACK_ON && space->parent_id && !(vma->vm_flags & VM_SOFTDIRTY);
}

#endif
