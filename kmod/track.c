// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "track.h"

#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "lazy.h"
#include "test.h"
#include "trackhook.h"

/* The last snapshot of an address space. The reference keeps its address from being another's. */
struct ff_tracked {
	struct hlist_node hash;
	struct mm_struct *mm; /* mm_count reference */
	u64 last;	      /* the snapshot's id; 0: nothing is known of what has changed since */
};

static DEFINE_HASHTABLE(ff_tracked, 8);
static unsigned int ff_tracked_count;	 /* 0: the hooks have nothing to do */
static DEFINE_SPINLOCK(ff_tracked_lock); /* guards both, and what is in it; taken in hooks, so with interrupts off */

static struct ff_tracked *ff_tracked_find(struct mm_struct *mm)
{
	struct ff_tracked *tracked;

	hash_for_each_possible(ff_tracked, tracked, hash, (unsigned long)mm) {
		if (tracked->mm == mm)
			return tracked;
	}
	return NULL;
}

/* Takes out those of processes that are gone, or all of them, and frees them. */
static void ff_tracked_sweep(bool all)
{
	struct ff_tracked *tracked;
	struct hlist_node *next;
	HLIST_HEAD(gone);
	unsigned long flags;
	u32 bucket;

	spin_lock_irqsave(&ff_tracked_lock, flags);
	hash_for_each_safe(ff_tracked, bucket, next, tracked, hash)
	{
		if (!all && atomic_read(&tracked->mm->mm_users))
			continue;
		hash_del(&tracked->hash);
		WRITE_ONCE(ff_tracked_count, ff_tracked_count - 1);
		hlist_add_head(&tracked->hash, &gone);
	}
	spin_unlock_irqrestore(&ff_tracked_lock, flags);
	hlist_for_each_entry_safe(tracked, next, &gone, hash)
	{
		mmdrop(tracked->mm);
		kfree(tracked);
	}
}

void ff_track_module_exit(void)
{
	ff_tracked_sweep(true);
}

/* Can the kernel put pages in place of others from now on, unseen? */
static bool ff_mm_is_merged(struct mm_struct *mm)
{
	return test_bit(MMF_VM_MERGEABLE, &mm->flags) && !ff_test_skips_hook(FF_TEST_HOOK_TRACK);
}

/* Takes are serialized, so nobody else adds the same. */
int ff_track_begin(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_tracked *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL), *tracked;
	unsigned long flags;

	if (!fresh)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, space->target, 0);
	ff_tracked_sweep(false);
	spin_lock_irqsave(&ff_tracked_lock, flags);
	tracked = ff_tracked_find(space->mm);
	if (!tracked) {
		tracked = fresh;
		fresh = NULL;
		mmgrab(space->mm);
		tracked->mm = space->mm;
		hash_add(ff_tracked, &tracked->hash, (unsigned long)space->mm);
		WRITE_ONCE(ff_tracked_count, ff_tracked_count + 1);
	}
	space->parent_id = tracked->last;
	tracked->last = snap->id;
	spin_unlock_irqrestore(&ff_tracked_lock, flags);
	kfree(fresh);
	space->begun = true;
	return 0;
}

void ff_track_undo(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_tracked *tracked;
	unsigned long flags;

	if (!space->begun || space->touched)
		return;
	space->begun = false;
	spin_lock_irqsave(&ff_tracked_lock, flags);
	tracked = ff_tracked_find(space->mm);
	if (tracked && tracked->last == snap->id)
		tracked->last = space->parent_id;
	spin_unlock_irqrestore(&ff_tracked_lock, flags);
}

void ff_track_void(struct mm_struct *mm)
{
	struct ff_tracked *tracked;
	unsigned long flags;

	if (ff_test_skips_hook(FF_TEST_HOOK_TRACK))
		return;
	spin_lock_irqsave(&ff_tracked_lock, flags);
	tracked = ff_tracked_find(mm);
	if (tracked)
		tracked->last = 0;
	spin_unlock_irqrestore(&ff_tracked_lock, flags);
}

static void ff_track_mark(struct vm_area_struct *vma)
{
	unsigned long flags;

	spin_lock_irqsave(&ff_tracked_lock, flags);
	if (ff_tracked_find(vma->vm_mm))
		ff_vma_mark_soft_dirty(vma);
	spin_unlock_irqrestore(&ff_tracked_lock, flags);
}

void ff_track_move(struct vm_area_struct *vma, unsigned long from, unsigned long bytes)
{
	/* Else entries are moved one by one, and get the bit: no table's range ends there. 6.7 looks back to its start.
	 */
	if ((from & ~PMD_MASK) + bytes >= PMD_SIZE && !ff_test_skips_hook(FF_TEST_HOOK_TRACK))
		ff_track_mark(vma);
}

/* The VMA at @addr, where anything is tracked. */
static struct vm_area_struct *ff_track_find_vma(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma = READ_ONCE(ff_tracked_count) ? find_vma(mm, addr) : NULL;

	return vma && vma->vm_start <= addr ? vma : NULL;
}

/* Will the kernel make one VMA of the two, of which one has the flag, and the other lacks it? Rather once too often. */
static bool ff_track_join_loses(const struct vm_area_struct *left, const struct vm_area_struct *right)
{
	if (!((left->vm_flags ^ right->vm_flags) & VM_SOFTDIRTY) || left->vm_file != right->vm_file ||
	    ff_test_skips_hook(FF_TEST_HOOK_JOIN))
		return false;
	if (left->anon_vma && right->anon_vma && left->anon_vma != right->anon_vma)
		return false;
	return right->vm_pgoff - left->vm_pgoff == (right->vm_start - left->vm_start) >> PAGE_SHIFT;
}

static bool ff_track_same_flags(const struct vm_area_struct *vma, unsigned long flags)
{
	return !((vma->vm_flags ^ flags) & ~VM_SOFTDIRTY);
}

/* The VMA that they become gets the flags of @vma, or keeps those of @neighbour. */
static void ff_track_join(const struct vm_area_struct *vma, struct vm_area_struct *neighbour)
{
	if (vma->vm_flags & VM_SOFTDIRTY)
		ff_track_mark(neighbour);
	else
		ff_track_void(vma->vm_mm);
}

void ff_track_modify(struct mm_struct *mm, struct vm_area_struct *prev, unsigned long start, unsigned long end,
		     unsigned long flags)
{
	struct vm_area_struct *vma = ff_track_find_vma(mm, start), *next;

	if (!vma)
		return;
	next = end == vma->vm_end ? ff_track_find_vma(mm, end) : NULL;
	if (prev && prev->vm_end == start && start == vma->vm_start && ff_track_same_flags(prev, flags) &&
	    ff_track_join_loses(prev, vma))
		ff_track_join(vma, prev);
	if (next && ff_track_same_flags(next, flags) && ff_track_join_loses(vma, next))
		ff_track_join(vma, next);
}

void ff_track_fill(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct vm_area_struct *prev = ff_track_find_vma(mm, start - 1), *next = ff_track_find_vma(mm, end);

	if (!prev || !next || !ff_track_same_flags(prev, next->vm_flags) || !ff_track_join_loses(prev, next))
		return;
	/* Which of them stays, is not ours to know. */
	ff_track_mark(prev);
	ff_track_mark(next);
}

/* Is this still the last snapshot of which something is known? */
static bool ff_track_holds(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_tracked *tracked;
	unsigned long flags;
	bool holds;

	spin_lock_irqsave(&ff_tracked_lock, flags);
	tracked = ff_tracked_find(space->mm);
	holds = tracked && tracked->last == snap->id;
	spin_unlock_irqrestore(&ff_tracked_lock, flags);
	return holds;
}

static enum ff_track ff_track_choose(const struct ff_space *space)
{
	bool witness = false;
	u32 index;

	if (!ff_track_hooks_ready())
		return FF_TRACK_NO_KERNEL;
	if (!space->lazy)
		return FF_TRACK_EAGER;
	if (ff_mm_is_merged(space->mm))
		return FF_TRACK_MERGED;
	for (index = 0; index < space->vma_count; index++) {
		const struct ff_vma *vma = &space->vmas[index];

		if (vma->private)
			continue;
		if (!(vma->vm_flags & VM_SOFTDIRTY))
			return FF_TRACK_FOREIGN;
		witness = true;
	}
	return witness ? FF_TRACK_ON : FF_TRACK_FOREIGN;
}

static bool ff_vma_is_fresh(const struct ff_vma *vma)
{
	return vma->private && (vma->vm_flags & VM_SOFTDIRTY);
}

void ff_track_stop(struct ff_snapshot *snap, struct ff_space *space)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, space->mm, 0);
	u32 index, fresh = 0;

	space->track = ff_track_choose(space);
	if (space->track == FF_TRACK_MERGED)
		ff_track_void(space->mm);
	if (space->track != FF_TRACK_ON)
		return;
	/* Somebody may have been at it since `prepare`. */
	if (!ff_track_holds(snap, space))
		space->parent_id = 0;
	space->lazy->track = true;
	space->touched = true;
	for (index = 0; index < space->vma_count; index++)
		fresh += ff_vma_is_fresh(&space->vmas[index]);
	if (!fresh)
		return;
	index = 0;
	for_each_vma(vmi, vma) {
		if (ff_vma_is_fresh(&space->vmas[index++]))
			ff_vma_clear_flags(vma, VM_SOFTDIRTY);
	}
}
