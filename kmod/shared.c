// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "shared.h"

#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>

bool ff_vma_is_shmem(struct vm_area_struct *vma)
{
	return vma->vm_file && (vma->vm_flags & VM_SHARED) && file_inode(vma->vm_file)->i_sb->s_magic == TMPFS_MAGIC;
}

u64 ff_shared_count(struct vm_area_struct *vma)
{
	return min_t(u64, READ_ONCE(vma->vm_file->f_mapping->nrpages), vma_pages(vma));
}

/* The page of the file at @index with a reference, NULL where another look is due. */
static struct page *ff_shared_page(struct address_space *mapping, pgoff_t index, void *entry)
{
	return xa_is_value(entry) ? shmem_read_mapping_page(mapping, index) : find_get_page(mapping, index);
}

int ff_shared_copy(struct ff_snapshot *snap, struct ff_space *space, const struct ff_vma *vma)
{
	struct address_space *mapping = vma->file->f_mapping;
	unsigned long index = vma->vm_pgoff, pages = (vma->image.end - vma->image.start) >> PAGE_SHIFT;
	unsigned long last = index + pages - 1;
	void *entry;

	while ((entry = xa_find(&mapping->i_pages, &index, last, XA_PRESENT))) {
		unsigned long addr = vma->image.start + ((index - vma->vm_pgoff) << PAGE_SHIFT);
		struct page *page, *copy;

		if (fatal_signal_pending(current))
			return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, addr);
		if (ff_pages_reserve(&snap->pages, 1, 1) || ff_pages_reserve_spare(&snap->pages, 1))
			return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, addr);
		page = ff_shared_page(mapping, index, entry);
		if (IS_ERR(page))
			return ff_fail(snap, -EIO, FF_REASON_SWAP_IN, -1, addr);
		if (!page) /* went to or came from swap between the two looks */
			continue;
		copy = ff_pages_take_spare(&snap->pages);
		if (PageUptodate(page))
			copy_highpage(copy, page);
		else /* fallocated and never written */
			clear_highpage(copy);
		put_page(page);
		ff_pages_push(&snap->pages, addr, copy, FF_RUN_COPIED);
		snap->take->counts.pages_copied++;
		space->copied_pages++;
		if (index++ == last)
			break;
	}
	return 0;
}
