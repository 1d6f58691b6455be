// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The first half of shared.h: before the stop, and in it. */
#include "shared.h"

#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>

#include "block.h"
#include "hook.h"
#include "lazy.h"
#include "space.h"
#include "test.h"
#include "use.h"

/* How long to wait for whoever changes the file through a system call; its pages are copied in the stop otherwise. */
#define FF_DRAIN_TRIES 10000

bool ff_vma_is_shmem(struct vm_area_struct *vma)
{
	/* VM_SHARED is not there where the file was opened for reading alone. */
	return vma->vm_file && (vma->vm_flags & VM_MAYSHARE) && file_inode(vma->vm_file)->i_sb->s_magic == TMPFS_MAGIC;
}

static int ff_shared_out_of_memory(struct ff_snapshot *snap)
{
	return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
}

/* ---- files and ranges -------------------------------------------------- */

static struct ff_shared *ff_shared_new(struct file *file)
{
	struct ff_shared *shared = kzalloc(sizeof(*shared), GFP_KERNEL);

	if (!shared)
		return NULL;
	shared->mapping = file->f_mapping;
	shared->file = get_file(file);
	shared->stale = true;
	spin_lock_init(&shared->lock);
	INIT_LIST_HEAD(&shared->spare);
	xa_init(&shared->blocks);
	return shared;
}

static struct ff_shared *ff_shared_get(struct ff_snapshot *snap, struct file *file)
{
	struct ff_shared *shared;

	list_for_each_entry(shared, &snap->shared, link) {
		if (shared->mapping == file->f_mapping)
			return shared;
	}
	shared = ff_shared_new(file);
	if (shared)
		list_add_tail(&shared->link, &snap->shared);
	return shared;
}

/* Many processes map the same: what is covered already is not noted again. */
static int ff_shared_cover(struct ff_shared *shared, pgoff_t first, pgoff_t last)
{
	u32 index;

	for (index = 0; index < shared->range_count; index++) {
		if (shared->ranges[index].first <= first && last <= shared->ranges[index].last)
			return 0;
	}
	if (shared->range_count == shared->range_limit) {
		u32 limit = shared->range_limit * 2 ?: 4;
		void *bigger = krealloc_array(shared->ranges, limit, sizeof(*shared->ranges), GFP_KERNEL);

		if (!bigger)
			return -ENOMEM;
		shared->ranges = bigger;
		shared->range_limit = limit;
	}
	shared->ranges[shared->range_count++] = (struct ff_shared_range){ .first = first, .last = last };
	shared->expected +=
		min_t(u64, last - first + 1,
		      READ_ONCE(shared->mapping->nrpages) + READ_ONCE(SHMEM_I(shared->mapping->host)->swapped));
	shared->stale = true;
	return 0;
}

/* Counts the VMAs, too, as the kernel does in i_mmap_writable. */
static int ff_shared_find_vma(struct ff_snapshot *snap, struct ff_vma *vma)
{
	u64 pages = (vma->image.end - vma->image.start) >> PAGE_SHIFT;

	vma->shared = ff_shared_get(snap, vma->file);
	if (!vma->shared || ff_shared_cover(vma->shared, vma->vm_pgoff, vma->vm_pgoff + pages - 1))
		return ff_shared_out_of_memory(snap);
	vma->shared->vmas += (vma->vm_flags & VM_MAYWRITE) != 0;
	return 0;
}

int ff_shared_find(struct ff_snapshot *snap)
{
	struct ff_shared *shared;
	u32 index, number;
	int err = 0;

	list_for_each_entry(shared, &snap->shared, link)
		shared->vmas = 0;
	for (index = 0; index < snap->space_count; index++) {
		struct ff_space *space = &snap->spaces[index];

		for (number = 0; number < space->vma_count && !err; number++) {
			if (space->vmas[number].image.flags & FF_VMA_SHMEM)
				err = ff_shared_find_vma(snap, &space->vmas[number]);
		}
	}
	return err;
}

u64 ff_shared_expected(const struct ff_snapshot *snap)
{
	struct ff_shared *shared;
	u64 pages = 0;

	list_for_each_entry(shared, &snap->shared, link)
		pages += shared->expected;
	return pages;
}

/* ---- holding the pages ------------------------------------------------- */

static int ff_shared_reserve(struct ff_shared *shared, u64 room)
{
	while (shared->spare_count < room) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			return -ENOMEM;
		spin_lock(&shared->lock);
		list_add(&page->lru, &shared->spare);
		shared->spare_count++;
		spin_unlock(&shared->lock);
	}
	return 0;
}

static struct ff_block *ff_shared_block(struct ff_shared *shared, pgoff_t index)
{
	struct ff_block *block = xa_load(&shared->blocks, index >> FF_BLOCK_ORDER);

	if (block)
		return block;
	block = ff_block_new(index);
	if (block && xa_err(xa_store(&shared->blocks, index >> FF_BLOCK_ORDER, block, GFP_KERNEL))) {
		ff_block_free(block);
		return NULL;
	}
	return block;
}

/* A block for each page that there is now, so that what is noted finds where to. */
static int ff_shared_add_blocks(struct ff_shared *shared, const struct ff_shared_range *range)
{
	unsigned long index = range->first;

	while (xa_find(&shared->mapping->i_pages, &index, range->last, XA_PRESENT)) {
		if (!ff_shared_block(shared, index))
			return -ENOMEM;
		index = (index | (PTRS_PER_PTE - 1)) + 1;
		if (!index || index > range->last)
			break;
		cond_resched();
	}
	return 0;
}

/* Does somebody hold a reference that neither the page cache, nor @mapped, nor @ours accounts for? */
static bool ff_shared_in_use(struct folio *folio, int mapped, int ours)
{
	return !ff_test_sees_no_use() && folio_ref_count(folio) > folio_nr_pages(folio) + mapped + ours;
}

/* Takes over the reference. */
static void ff_shared_hold(struct ff_shared *shared, struct ff_block *block, pgoff_t index, struct page *page,
			   struct ff_large *large)
{
	struct folio *folio = page_folio(page);
	bool in_use;

	if (folio_test_large(folio)) {
		ff_large_meet(large, folio);
		in_use = ff_shared_in_use(folio, large->mapped, ++large->held);
	} else {
		in_use = ff_shared_in_use(folio, ff_folio_mapped(folio), 1);
	}
	if (in_use) {
		set_bit(ff_block_index(index), block->suspect);
		WRITE_ONCE(shared->suspects, true);
	}
	spin_lock(&block->lock);
	ff_block_hold(block, ff_block_index(index), page);
	spin_unlock(&block->lock);
	shared->pages++;
}

/* The page of the file at @index with a reference, NULL where another look is due. */
static struct page *ff_shared_page(struct address_space *mapping, pgoff_t index, void *entry)
{
	return xa_is_value(entry) ? shmem_read_mapping_page(mapping, index) : find_get_page(mapping, index);
}

/* The first index from @index on of which no page is held. */
static pgoff_t ff_shared_next_gap(struct ff_shared *shared, pgoff_t index, pgoff_t last)
{
	while (index <= last) {
		struct ff_block *block = xa_load(&shared->blocks, index >> FF_BLOCK_ORDER);
		u32 bit = ff_block_index(index);

		if (!block)
			break;
		bit = find_next_zero_bit(block->held, PTRS_PER_PTE, bit);
		index = block->first + bit;
		if (bit < PTRS_PER_PTE && !test_bit(bit, block->unreadable))
			break;
		index += bit < PTRS_PER_PTE;
	}
	return index;
}

/* Holds what there is and is not held yet. Sleeps. @late: in the stop, where all that is new is suspect. */
static int ff_shared_scan_range(struct ff_snapshot *snap, struct ff_shared *shared, pgoff_t index, pgoff_t last,
				bool late)
{
	struct ff_large large = {};

	for (;;) {
		struct ff_block *block;
		struct page *page;
		void *entry;

		index = ff_shared_next_gap(shared, index, last);
		if (index > last)
			return 0;
		entry = xa_find(&shared->mapping->i_pages, &index, last, XA_PRESENT);
		if (!entry)
			return 0;
		block = ff_shared_block(shared, index);
		if (!block || ff_shared_reserve(shared, shared->pages + 1))
			return ff_shared_out_of_memory(snap);
		if (test_bit(ff_block_index(index), block->held) || test_bit(ff_block_index(index), block->unreadable))
			continue;
		page = ff_shared_page(shared->mapping, index, entry);
		if (IS_ERR(page))
			return ff_fail(snap, -EIO, FF_REASON_SWAP_IN, -1, (u64)index << PAGE_SHIFT);
		if (!page) /* went to or came from swap between the two looks */
			continue;
		if (late)
			set_bit(ff_block_index(index), block->suspect);
		ff_shared_hold(shared, block, index, page, &large);
		if (fatal_signal_pending(current))
			return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
		if (!late)
			cond_resched();
	}
}

static int ff_shared_scan(struct ff_snapshot *snap, struct ff_shared *shared, bool late)
{
	u32 index;
	int err = 0;

	/* First the numbers: what comes or goes meanwhile is seen in the stop. */
	shared->nrpages = READ_ONCE(shared->mapping->nrpages);
	shared->swapped = READ_ONCE(SHMEM_I(shared->mapping->host)->swapped);
	for (index = 0; index < shared->range_count && !err; index++)
		err = ff_shared_scan_range(snap, shared, shared->ranges[index].first, shared->ranges[index].last, late);
	return err;
}

/* Waits until nobody is in a system call that changes the file and passed the hooks before they listened. */
static void ff_shared_drain(struct ff_shared *shared)
{
	struct inode *inode = shared->mapping->host;
	u32 try;

	for (try = 0; try < FF_DRAIN_TRIES && !fatal_signal_pending(current); try++) {
		if (inode_trylock_shared(inode)) {
			inode_unlock_shared(inode);
			return;
		}
		usleep_range(50, 150);
	}
	WRITE_ONCE(shared->uncertain, true);
}

static int ff_shared_prepare_one(struct ff_snapshot *snap, struct ff_shared *shared)
{
	u32 index;

	for (index = 0; index < shared->range_count; index++) {
		if (ff_shared_add_blocks(shared, &shared->ranges[index]))
			return ff_shared_out_of_memory(snap);
	}
	if (snap->take->arm != FF_ARM_EAGER && ff_hook_shared_ready()) {
		ff_hook_add_shared(shared);
		ff_shared_drain(shared);
	}
	shared->stale = false;
	return ff_shared_scan(snap, shared, false);
}

int ff_shared_prepare(struct ff_snapshot *snap)
{
	struct ff_shared *shared;
	int err = 0;

	list_for_each_entry(shared, &snap->shared, link) {
		err = ff_shared_prepare_one(snap, shared);
		if (err)
			break;
	}
	return err;
}

/* ---- in the stop ------------------------------------------------------- */

/* Pages may have come or gone. That somebody let one go while another came is told by the hook of truncation. */
static bool ff_shared_differs(const struct ff_shared *shared)
{
	return !shared->hooked || READ_ONCE(shared->stale) || shared->nrpages != READ_ONCE(shared->mapping->nrpages) ||
	       shared->swapped != READ_ONCE(SHMEM_I(shared->mapping->host)->swapped);
}

static int ff_shared_look_again(struct ff_snapshot *snap, struct ff_shared *shared)
{
	struct ff_block *block;
	unsigned long index;

	xa_for_each(&shared->blocks, index, block)
	{
		spin_lock(&block->lock);
		ff_block_forget(shared, block);
		spin_unlock(&block->lock);
	}
	shared->suspects = true;
	return ff_shared_scan(snap, shared, true);
}

static void ff_shared_copy_suspects(struct ff_shared *shared, bool all)
{
	struct ff_block *block;
	unsigned long index;

	xa_for_each(&shared->blocks, index, block)
	{
		spin_lock(&block->lock);
		ff_block_copy(shared, block, 0, PTRS_PER_PTE, all ? NULL : block->suspect, FF_PATH_STOP);
		spin_unlock(&block->lock);
	}
}

static void ff_shared_set_state(struct ff_shared *shared, enum ff_shared_state state)
{
	spin_lock(&shared->lock);
	shared->state = state;
	spin_unlock(&shared->lock);
}

static int ff_shared_stop_one(struct ff_snapshot *snap, struct ff_shared *shared)
{
	bool all;
	int err = 0;

	/*
	 * First the hooks, then the count: whoever maps the file from now on is seen here, or passes the hook of page
	 * faults before the first change.
	 */
	ff_shared_set_state(shared, shared->hooked ? FF_SHARED_ARMED : FF_SHARED_OVER);
	smp_mb();
	all = !shared->hooked || READ_ONCE(shared->uncertain) ||
	      shared->vmas != atomic_read(&shared->mapping->i_mmap_writable);
	if (ff_shared_differs(shared))
		err = ff_shared_look_again(snap, shared);
	if (!err && (all || READ_ONCE(shared->suspects)))
		ff_shared_copy_suspects(shared, all);
	if (all)
		ff_shared_set_state(shared, FF_SHARED_OVER);
	return err;
}

int ff_shared_stop(struct ff_snapshot *snap)
{
	u64 begin = ktime_get_ns();
	struct ff_shared *shared;
	int err;

	err = ff_shared_find(snap);
	list_for_each_entry(shared, &snap->shared, link) {
		if (!err)
			err = ff_shared_stop_one(snap, shared);
	}
	snap->take->shared_ns += ktime_get_ns() - begin;
	return err;
}

static void ff_shared_settle_vma(struct ff_vma *vma, const struct ff_leaf *leaf)
{
	unsigned long addr = max_t(unsigned long, leaf->addr, vma->image.start);
	unsigned long end = min_t(unsigned long, leaf->addr + PMD_SIZE, vma->image.end);

	for (; addr < end; addr += PAGE_SIZE) {
		pgoff_t index = vma->vm_pgoff + ((addr - vma->image.start) >> PAGE_SHIFT);

		if (test_bit((addr - leaf->addr) >> PAGE_SHIFT, leaf->suspect))
			ff_shared_map(vma->shared, index, index, FF_PATH_STOP);
	}
}

void ff_shared_settle(struct ff_space *space, const struct ff_leaf *leaf)
{
	u32 index;

	for (index = ff_space_find_vma(space, leaf->addr); index < space->vma_count; index++) {
		if (space->vmas[index].image.start >= leaf->addr + PMD_SIZE)
			break;
		if (space->vmas[index].shared)
			ff_shared_settle_vma(&space->vmas[index], leaf);
	}
}
