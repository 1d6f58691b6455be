// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "drain.h"

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"

/* Pages dealt with before others have their turn at the lock. */
#define FF_DRAIN_BITE 512

int ff_drain_prepare(struct ff_snapshot *snap)
{
	u64 count = snap->pages.count;

	snap->maps = count ? kvcalloc(count, sizeof(*snap->maps), GFP_KERNEL) : NULL;
	return count && !snap->maps ? -ENOMEM : 0;
}

/* The page that holds byte @at of the image, which is not behind its end; NULL: it was let go. */
static struct page *ff_drain_page(struct ff_snapshot *snap, u64 at)
{
	if (at >= snap->meta_bytes)
		return ff_pages_get(&snap->pages, (at - snap->meta_bytes) >> PAGE_SHIFT);
	return vmalloc_to_page(snap->meta + at);
}

int ff_drain_get(struct ff_snapshot *snap, u64 at, struct page **pages, u32 count)
{
	u32 got;

	mutex_lock(&snap->drain_lock);
	for (got = 0; got < count && at < ff_image_bytes(snap); got++) {
		pages[got] = ff_drain_page(snap, at);
		if (!pages[got])
			break;
		get_page(pages[got]);
		at = round_down(at, PAGE_SIZE) + PAGE_SIZE;
	}
	mutex_unlock(&snap->drain_lock);
	return got || at >= ff_image_bytes(snap) ? got : -ENODATA;
}

/* ---- mapping ----------------------------------------------------------- */

static vm_fault_t ff_drain_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct ff_snapshot *snap = vma->vm_file->private_data;
	unsigned long addr = vmf->address & PAGE_MASK, end = min(vma->vm_end, (addr & PMD_MASK) + PMD_SIZE);
	u64 at = (u64)vmf->pgoff << PAGE_SHIFT;
	vm_fault_t result = VM_FAULT_SIGBUS;

	/* All that lies in the same page table: a fault costs more than an entry. */
	mutex_lock(&snap->drain_lock);
	for (; addr < end && at < ff_image_bytes(snap); addr += PAGE_SIZE, at += PAGE_SIZE) {
		struct page *page = ff_drain_page(snap, at);

		if (!page)
			break;
		result = vmf_insert_pfn(vma, addr, page_to_pfn(page));
		if (result != VM_FAULT_NOPAGE)
			break;
	}
	mutex_unlock(&snap->drain_lock);
	return addr == (vmf->address & PAGE_MASK) ? result : VM_FAULT_NOPAGE;
}

/* The data pages that a mapping shows: from the first to before the last. */
static void ff_drain_range(struct vm_area_struct *vma, u64 *first, u64 *last)
{
	const struct ff_snapshot *snap = vma->vm_file->private_data;
	u64 tables = snap->meta_bytes >> PAGE_SHIFT;

	*first = max_t(u64, vma->vm_pgoff, tables) - tables;
	*last = max_t(u64, vma->vm_pgoff + vma_pages(vma), tables) - tables;
}

static void ff_drain_count(struct vm_area_struct *vma, int change)
{
	struct ff_snapshot *snap = vma->vm_file->private_data;
	u64 page, last;

	ff_drain_range(vma, &page, &last);
	mutex_lock(&snap->drain_lock);
	/* One that cannot be counted any more stays for good. */
	for (; page < last; page++) {
		if (snap->maps[page] < U16_MAX)
			snap->maps[page] += change;
	}
	mutex_unlock(&snap->drain_lock);
}

static void ff_drain_open(struct vm_area_struct *vma)
{
	ff_drain_count(vma, 1);
}

static void ff_drain_close(struct vm_area_struct *vma)
{
	ff_drain_count(vma, -1);
}

/* Its parts would be counted otherwise than the whole was. */
static int ff_drain_may_split(struct vm_area_struct *vma, unsigned long addr)
{
	return -EINVAL;
}

static const struct vm_operations_struct ff_drain_vm_ops = {
	.open = ff_drain_open,
	.close = ff_drain_close,
	.may_split = ff_drain_may_split,
	.fault = ff_drain_fault,
};

/*
 * Page table entries without references: the mapping holds the file, and the file the pages; those that are mapped are
 * not let go.
 */
int ff_drain_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct ff_snapshot *snap = file->private_data;
	u64 first = (u64)vma->vm_pgoff << PAGE_SHIFT;

	if (vma->vm_flags & (VM_WRITE | VM_MAYWRITE | VM_EXEC))
		return -EINVAL;
	if (first + (vma->vm_end - vma->vm_start) > ff_image_bytes(snap))
		return -ENXIO;
	ff_vma_set_flags(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY);
	vma->vm_ops = &ff_drain_vm_ops;
	ff_drain_open(vma);
	return 0;
}

/* ---- looking, and letting go ------------------------------------------- */

/* Has nobody else it? Then whoever had it has a copy by now, or has unmapped it. */
static bool ff_page_is_sole(struct page *page)
{
	return !ff_page_is_mapped(page);
}

static void ff_drain_release_bite(struct ff_snapshot *snap, u64 first, u64 last, struct ff_release *release, bool *busy)
{
	mutex_lock(&snap->drain_lock);
	for (; first < last; first++) {
		struct page *page;

		if (snap->maps[first]) {
			*busy = true;
			continue;
		}
		page = ff_pages_take(&snap->pages, first);
		if (!page)
			continue;
		release->released++;
		release->sole += ff_page_is_sole(page);
		put_page(page);
	}
	mutex_unlock(&snap->drain_lock);
}

static long ff_drain_release(struct ff_snapshot *snap, void __user *user)
{
	struct ff_release release;
	bool busy = false;
	u64 at, end;

	if (copy_from_user(&release, user, sizeof(release)))
		return -EFAULT;
	if (release.page > snap->pages.count || release.pages > snap->pages.count - release.page)
		return -EINVAL;
	release.released = 0;
	release.sole = 0;
	end = release.page + release.pages;
	for (at = release.page; at < end; at += FF_DRAIN_BITE) {
		ff_drain_release_bite(snap, at, min(end, at + FF_DRAIN_BITE), &release, &busy);
		cond_resched();
	}
	if (copy_to_user(user, &release, sizeof(release)))
		return -EFAULT;
	return busy ? -EBUSY : 0;
}

static u32 ff_drain_look_at(struct ff_snapshot *snap, u64 first, u64 last, u64 *held)
{
	u32 sole = 0;

	mutex_lock(&snap->drain_lock);
	for (; first < last; first++) {
		struct page *page = ff_pages_get(&snap->pages, first);

		if (!page)
			continue;
		++*held;
		sole += ff_page_is_sole(page);
	}
	mutex_unlock(&snap->drain_lock);
	return sole;
}

static int ff_drain_look_stretches(struct ff_snapshot *snap, const struct ff_look *look)
{
	struct ff_stretch __user *user = u64_to_user_ptr(look->stretches);
	u64 held = 0;
	u32 index;

	for (index = 0; index < look->count; index++) {
		struct ff_stretch stretch;

		if (copy_from_user(&stretch, &user[index], sizeof(stretch)))
			return -EFAULT;
		if (stretch.page > snap->pages.count || stretch.pages > snap->pages.count - stretch.page)
			return -EINVAL;
		stretch.sole = ff_drain_look_at(snap, stretch.page, stretch.page + stretch.pages, &held);
		if (copy_to_user(&user[index], &stretch, sizeof(stretch)))
			return -EFAULT;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static long ff_drain_look(struct ff_snapshot *snap, void __user *user)
{
	struct ff_look look;
	u64 at;
	int err;

	if (copy_from_user(&look, user, sizeof(look)))
		return -EFAULT;
	if (look.reserved || look.count > FF_MAX_STRETCHES)
		return -EINVAL;
	err = ff_drain_look_stretches(snap, &look);
	if (err)
		return err;
	look.held = 0;
	look.sole = 0;
	for (at = 0; at < snap->pages.count && !look.count; at += FF_DRAIN_BITE) {
		look.sole += ff_drain_look_at(snap, at, min_t(u64, snap->pages.count, at + FF_DRAIN_BITE), &look.held);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return copy_to_user(user, &look, sizeof(look)) ? -EFAULT : 0;
}

long ff_drain_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	switch (command) {
	case FF_IOC_RELEASE:
		return ff_drain_release(file->private_data, (void __user *)argument);
	case FF_IOC_LOOK:
		return ff_drain_look(file->private_data, (void __user *)argument);
	default:
		return -ENOTTY;
	}
}
