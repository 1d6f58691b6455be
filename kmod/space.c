// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "space.h"

#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "arm.h"
#include "compat.h"
#include "hook.h"
#include "lazy.h"
#include "notify.h"
#include "shared.h"
#include "take.h"
#include "test.h"
#include "track.h"
#include "walk.h"

/* Tries at mmap_lock before we queue up for it, and thereby hold up page faults. */
#define FF_LOCK_TRIES 2000

/*
 * Where LAZY gives way to PUD, by the memory of all targets together: whoever writes first to a gigabyte that is armed
 * as a whole waits until its page tables are walked, but for no more than that one; LAZY would stop everybody for as
 * long per gigabyte (docs/performance.md).
 */
#define FF_LARGE_PAGES (PUD_SIZE >> PAGE_SHIFT)

/*
 * Secondary page tables (KVM, RDMA ODP, HMM) are told of a write-protection by __mmu_notifier_invalidate_range_start(),
 * which is not exported: their writes would miss the snapshot. Asked before the stop, and again in it: a target may
 * have got some.
 */
static int ff_space_refuse_notifier(struct ff_snapshot *snap, struct ff_space *space)
{
	if (!ff_notify_is_foreign(space->mm, space->lazy))
		return 0;
	return ff_fail(snap, -EOPNOTSUPP, FF_REASON_FOREIGN_NOTIFIER, space->target, 0);
}

/* For the same reason asked whenever the VMAs are noted. */
static int ff_space_refuse_vma(struct ff_snapshot *snap, struct ff_space *space, struct vm_area_struct *vma)
{
	if (!is_vm_hugetlb_page(vma))
		return 0;
	return ff_fail(snap, -EOPNOTSUPP, FF_REASON_HUGETLB, space->target, vma->vm_start);
}

int ff_space_check(struct ff_snapshot *snap, struct ff_space *space)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, space->mm, 0);
	int err;

	mmap_read_lock(space->mm);
	err = ff_space_refuse_notifier(snap, space);
	for_each_vma(vmi, vma) {
		if (err)
			break;
		err = ff_space_refuse_vma(snap, space, vma);
	}
	mmap_read_unlock(space->mm);
	return err;
}

static void ff_space_forget_vmas(struct ff_space *space)
{
	while (space->vma_count) {
		struct ff_vma *noted = &space->vmas[--space->vma_count];

		if (noted->file)
			fput(noted->file);
	}
}

/* Where there is less room, what was noted is forgotten. */
static int ff_space_reserve_vmas(struct ff_space *space, u32 capacity)
{
	if (capacity <= space->vma_capacity)
		return 0;
	ff_space_forget_vmas(space);
	kvfree(space->vmas);
	space->vma_capacity = 0;
	space->vmas = kvcalloc(capacity, sizeof(*space->vmas), GFP_KERNEL);
	if (!space->vmas)
		return -ENOMEM;
	space->vma_capacity = capacity;
	return 0;
}

/* Is its file one of the kernel's own, on a filesystem that nobody can mount: secret memory, a ring of AIO? */
static bool ff_vma_is_internal(struct vm_area_struct *vma)
{
	return vma->vm_file && (file_inode(vma->vm_file)->i_sb->s_flags & SB_NOUSER);
}

static u32 ff_vma_flags(struct vm_area_struct *vma)
{
	u32 flags = 0;

	if (vma->vm_flags & VM_READ)
		flags |= FF_VMA_READ;
	if (vma->vm_flags & VM_WRITE)
		flags |= FF_VMA_WRITE;
	if (vma->vm_flags & VM_EXEC)
		flags |= FF_VMA_EXEC;
	if (vma->vm_flags & VM_MAYSHARE)
		flags |= FF_VMA_SHARED;
	if (vma->vm_flags & VM_GROWSDOWN)
		flags |= FF_VMA_GROWSDOWN;
	if (vma->vm_flags & VM_DONTDUMP)
		flags |= FF_VMA_DONTDUMP;
	if (ff_vma_is_shmem(vma))
		flags |= FF_VMA_SHMEM;
	if (vma->vm_file && (vma->vm_flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP)))
		flags |= FF_VMA_DEVICE;
	if ((flags & FF_VMA_SHARED) && !(flags & (FF_VMA_SHMEM | FF_VMA_DEVICE)) && ff_vma_is_internal(vma))
		flags |= FF_VMA_INTERNAL;
	if (!vma->vm_file && vma->vm_ops && vma->vm_ops->name)
		flags |= FF_VMA_SPECIAL;
	return flags;
}

static void ff_space_note_vma(struct ff_vma *noted, struct vm_area_struct *vma)
{
	memset(noted, 0, sizeof(*noted));
	noted->image.start = vma->vm_start;
	noted->image.end = vma->vm_end;
	noted->image.flags = ff_vma_flags(vma);
	noted->vm_flags = vma->vm_flags;
	noted->vm_pgoff = vma->vm_pgoff;
	noted->vm_ops = vma->vm_ops;
	noted->private = ff_vma_has_private(vma);
	if (vma->vm_file) {
		struct inode *inode = file_inode(vma->vm_file);

		noted->file = get_file(vma->vm_file);
		noted->image.file_offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
		noted->image.inode = inode->i_ino;
		noted->image.dev_major = MAJOR(inode->i_sb->s_dev);
		noted->image.dev_minor = MINOR(inode->i_sb->s_dev);
	} else if (noted->image.flags & FF_VMA_SPECIAL) {
		noted->name = vma->vm_ops->name(vma);
	} else if (vma->vm_start <= vma->vm_mm->brk && vma->vm_end > vma->vm_mm->start_brk) {
		noted->name = "[heap]";
	} else if (vma->vm_start <= vma->vm_mm->start_stack && vma->vm_end >= vma->vm_mm->start_stack) {
		noted->name = "[stack]";
	}
}

static bool ff_vma_is_as_noted(const struct ff_vma *noted, const struct vm_area_struct *vma)
{
	return noted->image.start == vma->vm_start && noted->image.end == vma->vm_end &&
	       noted->vm_flags == vma->vm_flags && noted->vm_pgoff == vma->vm_pgoff && noted->file == vma->vm_file &&
	       noted->vm_ops == vma->vm_ops && noted->private == ff_vma_has_private(vma);
}

/* Notes the VMAs anew. mmap_lock held. */
static int ff_space_note_vmas(struct ff_snapshot *snap, struct ff_space *space)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, space->mm, 0);

	ff_space_forget_vmas(space);
	if (ff_space_reserve_vmas(space, space->mm->map_count + space->mm->map_count / 4))
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, space->target, 0);
	for_each_vma(vmi, vma) {
		if (!ff_test_skips_recheck() && ff_space_refuse_vma(snap, space, vma))
			return -EOPNOTSUPP;
		if (space->vma_count == space->vma_capacity)
			return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, space->target, 0);
		ff_space_note_vma(&space->vmas[space->vma_count++], vma);
	}
	return 0;
}

static u64 ff_resident_pages(const struct ff_snapshot *snap)
{
	u64 pages = 0;
	u32 index;

	for (index = 0; index < snap->space_count; index++)
		pages += get_mm_rss(snap->spaces[index].mm);
	return pages;
}

static void ff_space_choose(struct ff_snapshot *snap, struct ff_space *space)
{
	if (snap->take->arm != FF_ARM_AUTO) {
		space->arm_mode = snap->take->arm;
		space->arm_reason = FF_ARM_ASKED;
	} else if (ff_resident_pages(snap) >= FF_LARGE_PAGES) {
		space->arm_mode = FF_ARM_PUD;
		space->arm_reason = FF_ARM_LARGE;
	} else {
		space->arm_mode = FF_ARM_LAZY;
		space->arm_reason = FF_ARM_DEFAULT;
	}
	if (space->arm_mode != FF_ARM_EAGER && !ff_hook_ready()) {
		space->arm_mode = FF_ARM_EAGER;
		space->arm_reason = FF_ARM_NO_HOOK;
	}
}

int ff_space_prepare(struct ff_snapshot *snap, struct ff_space *space)
{
	struct ff_walk_totals totals = {};
	int err = 0;

	ff_space_choose(snap, space);
	err = ff_track_begin(snap, space);
	if (!err && space->arm_mode != FF_ARM_EAGER)
		err = ff_lazy_begin(snap, space);
	if (err)
		return err;
	mmap_read_lock(space->mm);
	err = ff_walk_count(snap, space, &totals);
	if (!err)
		err = ff_space_note_vmas(snap, space);
	mmap_read_unlock(space->mm);
	space->anon_pages = totals.pages;
	return err;
}

/*
 * Several locks of one class look like a deadlock to lockdep, and 48 of them are too many for it. Nobody but a take has
 * more than one mmap_lock, save for fork(), whose second nobody else knows yet; and takes are serialized. So these are
 * nested in ff_take_lock, which makes them one. There is no function that queues up for such a lock, nor one that
 * tries; hence by hand: lockdep is not told of a lock until we are done with all of them.
 */
static void ff_mmap_hide(struct mm_struct *mm)
{
	rwsem_release(&mm->mmap_lock.dep_map, _THIS_IP_);
}

static void ff_mmap_show(struct mm_struct *mm)
{
	rwsem_acquire_nest(&mm->mmap_lock.dep_map, 0, 1, &ff_take_lock.dep_map, _THIS_IP_);
}

/* Either every lock or none: while we wait for one, nobody waits for us. */
static bool ff_spaces_trylock(struct ff_snapshot *snap)
{
	u32 index;

	for (index = 0; index < snap->space_count; index++) {
		if (!ff_mmap_write_trylock(snap->spaces[index].mm)) {
			ff_spaces_unlock(snap);
			return false;
		}
		snap->spaces[index].locked = true;
		ff_mmap_hide(snap->spaces[index].mm);
		ff_mmap_show(snap->spaces[index].mm);
	}
	return true;
}

static int ff_spaces_queue(struct ff_snapshot *snap)
{
	u32 locked, index;

	for (locked = 0; locked < snap->space_count; locked++) {
		if (mmap_write_lock_killable(snap->spaces[locked].mm))
			break;
		snap->spaces[locked].locked = true;
		ff_mmap_hide(snap->spaces[locked].mm);
	}
	for (index = 0; index < locked; index++)
		ff_mmap_show(snap->spaces[index].mm);
	if (locked == snap->space_count)
		return 0;
	ff_spaces_unlock(snap);
	return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
}

/*
 * In a VMA that is not shared and has no anon_vma, a page fault that would make a private page takes mmap_lock first
 * (__vmf_anon_prepare()), which we hold. So most VMAs, those of code and of guards, need no lock of their own.
 */
static bool ff_vma_needs_lock(const struct vm_area_struct *vma)
{
	return vma->anon_vma || (vma->vm_flags & VM_SHARED);
}

/* Are the VMAs as they were noted? @lock is done on the way to each that needs it. */
static __always_inline bool ff_space_is_as_noted(struct ff_space *space, void (*lock)(struct vm_area_struct *))
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, space->mm, 0);
	bool same = true;
	u32 index = 0;

	for_each_vma(vmi, vma) {
		if (ff_vma_needs_lock(vma))
			lock(vma);
		same &= index < space->vma_count && ff_vma_is_as_noted(&space->vmas[index], vma);
		index++;
	}
	return same && index == space->vma_count;
}

void ff_spaces_rehearse(struct ff_snapshot *snap)
{
	u32 index, tables = 0;

	for (index = 0; index < snap->space_count; index++) {
		struct ff_space *space = &snap->spaces[index];

		if (!mmap_read_trylock(space->mm))
			continue;
		if (ff_space_is_as_noted(space, ff_vma_rehearse_lock))
			ff_arm_rehearse(snap, space, &tables);
		mmap_read_unlock(space->mm);
	}
}

int ff_spaces_lock(struct ff_snapshot *snap)
{
	u32 index, try;
	int err;

	for (try = 0; !ff_spaces_trylock(snap); try++) {
		if (fatal_signal_pending(current))
			return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
		if (try < FF_LOCK_TRIES) {
			usleep_range(5, 20);
			continue;
		}
		if (snap->disk) {
			/* Who has it may wait for what we froze, so we do not wait for him for good. */
			if (time_after(jiffies, snap->freezer.deadline))
				return ff_fail(snap, -ETIMEDOUT, FF_REASON_LOCK_TIMEOUT, -1, 0);
			usleep_range(100, 200);
			continue;
		}
		err = ff_spaces_queue(snap);
		if (err)
			return err;
		break;
	}
	/* The stop begins here: from now on a page fault of a target waits. */
	snap->take->phases[FF_PHASE_FREEZE_TASKS].begin_ns = ktime_get_ns();
	for (index = 0; index < snap->space_count; index++)
		snap->spaces[index].changed = !ff_space_is_as_noted(&snap->spaces[index], ff_vma_lock);
	return 0;
}

void ff_spaces_unlock(struct ff_snapshot *snap)
{
	u32 index;

	for (index = 0; index < snap->space_count; index++) {
		if (!snap->spaces[index].locked)
			continue;
		snap->spaces[index].locked = false;
		mmap_write_unlock(snap->spaces[index].mm);
	}
}

u32 ff_space_find_vma(const struct ff_space *space, unsigned long addr)
{
	u32 first = 0, last = space->vma_count;

	while (first < last) {
		u32 middle = first + (last - first) / 2;

		if (space->vmas[middle].image.end <= addr)
			first = middle + 1;
		else
			last = middle;
	}
	return first;
}

int ff_space_note(struct ff_snapshot *snap, struct ff_space *space)
{
	struct mm_struct *mm = space->mm;
	int err;

	err = ff_test_skips_recheck() ? 0 : ff_space_refuse_notifier(snap, space);
	if (!err && space->changed)
		err = ff_space_note_vmas(snap, space);
	if (err)
		return err;
	ff_track_stop(snap, space);
	memcpy(space->saved_auxv, mm->saved_auxv, sizeof(space->saved_auxv));
	space->layout.start_code = mm->start_code;
	space->layout.end_code = mm->end_code;
	space->layout.start_data = mm->start_data;
	space->layout.end_data = mm->end_data;
	space->layout.start_brk = mm->start_brk;
	space->layout.brk = mm->brk;
	space->layout.start_stack = mm->start_stack;
	space->layout.arg_start = mm->arg_start;
	space->layout.arg_end = mm->arg_end;
	space->layout.env_start = mm->env_start;
	space->layout.env_end = mm->env_end;
	rcu_read_lock();
	space->exe = rcu_dereference(mm->exe_file);
	if (space->exe)
		get_file(space->exe); /* mm holds a reference of its own, and mmap_lock keeps it */
	rcu_read_unlock();
	return 0;
}

void ff_space_free(struct ff_space *space)
{
	ff_space_forget_vmas(space);
	kvfree(space->vmas);
	if (space->exe)
		fput(space->exe);
	ff_lazy_free(space->lazy);
	if (space->mm)
		mmput(space->mm);
}
