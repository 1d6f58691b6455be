// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The second half of shared.h: what happens to shared memory after the stop. */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "block.h"
#include "hook.h"
#include "pace.h"
#include "stall.h"

/* ---- on behalf of the hooks -------------------------------------------- */

/* Under shared->lock. */
static void ff_shared_suspect(struct ff_shared *shared, pgoff_t first, pgoff_t last)
{
	unsigned long key = first >> FF_BLOCK_ORDER;

	for (; key <= last >> FF_BLOCK_ORDER; key++) {
		struct ff_block *block = xa_load(&shared->blocks, key);
		pgoff_t index = max(first, key << FF_BLOCK_ORDER);

		/* Of pages that nobody has seen yet, we cannot note which. */
		if (!block)
			shared->uncertain = true;
		for (; block && index <= min(last, block->first + PTRS_PER_PTE - 1); index++)
			set_bit(ff_block_index(index), block->suspect);
	}
	shared->suspects = true;
}

static u32 ff_shared_copy_range(struct ff_shared *shared, pgoff_t first, pgoff_t last, enum ff_path path)
{
	struct ff_block *block;
	unsigned long key;
	u32 copied = 0;

	xa_for_each_range(&shared->blocks, key, block, first >> FF_BLOCK_ORDER, last >> FF_BLOCK_ORDER)
	{
		u32 from = max(first, block->first) - block->first;
		u32 to = min(last, block->first + PTRS_PER_PTE - 1) - block->first + 1;

		if (find_next_bit(block->armed, to, from) >= to)
			continue;
		spin_lock(&block->lock);
		copied += ff_block_copy(shared, block, from, to, NULL, path);
		spin_unlock(&block->lock);
	}
	return copied;
}

void ff_shared_map(struct ff_shared *shared, pgoff_t first, pgoff_t last, enum ff_path path)
{
	u64 begin = ktime_get_ns();

	if (READ_ONCE(shared->state) == FF_SHARED_ARMED && ff_shared_copy_range(shared, first, last, path))
		ff_note_stall(&shared->stall_ns, begin);
}

void ff_shared_change(struct ff_shared *shared, pgoff_t first, pgoff_t last, enum ff_path path)
{
	/* Under the lock: whoever is not noted before the stop sees that it has come. */
	spin_lock(&shared->lock);
	if (shared->state == FF_SHARED_WATCHED)
		ff_shared_suspect(shared, first, last);
	spin_unlock(&shared->lock);
	ff_shared_map(shared, first, last, path);
}

/* How many pages a fault at @index may map at once: those of its folio, of whose size a power of two is. */
static pgoff_t ff_shared_folio_pages(struct ff_shared *shared, pgoff_t index)
{
	struct ff_block *block = xa_load(&shared->blocks, index >> FF_BLOCK_ORDER);
	pgoff_t pages = 1;

	if (!block)
		return 1;
	spin_lock(&block->lock);
	if (test_bit(ff_block_index(index), block->armed))
		pages = folio_nr_pages(page_folio(block->pages[ff_block_index(index)]));
	spin_unlock(&block->lock);
	return pages;
}

void ff_shared_fault(struct ff_shared *shared, pgoff_t index, bool known)
{
	pgoff_t pages;

	if (READ_ONCE(shared->state) == FF_SHARED_WATCHED) {
		spin_lock(&shared->lock);
		if (shared->state == FF_SHARED_WATCHED && !known)
			shared->uncertain = true;
		spin_unlock(&shared->lock);
	}
	if (READ_ONCE(shared->state) != FF_SHARED_ARMED)
		return;
	pages = ff_shared_folio_pages(shared, index);
	index = round_down(index, pages);
	ff_shared_map(shared, index, index + pages - 1, FF_PATH_FAULT);
}

/* Copies those parts of large folios that are in the range: where the folio is not removed, they are zeroed. */
static void ff_shared_copy_large(struct ff_shared *shared, pgoff_t first, pgoff_t last)
{
	struct ff_block *block;
	unsigned long key;

	xa_for_each_range(&shared->blocks, key, block, first >> FF_BLOCK_ORDER, last >> FF_BLOCK_ORDER)
	{
		u32 index;

		spin_lock(&block->lock);
		for_each_set_bit(index, block->armed, PTRS_PER_PTE) {
			if (PageCompound(block->pages[index]) && block->first + index >= first &&
			    block->first + index <= last)
				ff_block_copy(shared, block, index, index + 1, NULL, FF_PATH_FILE);
		}
		spin_unlock(&block->lock);
	}
}

void ff_shared_truncate(struct ff_shared *shared, loff_t start, loff_t end)
{
	pgoff_t first = start >> PAGE_SHIFT, last = (u64)end >> PAGE_SHIFT;
	u64 begin = ktime_get_ns();
	u32 state;

	spin_lock(&shared->lock);
	state = shared->state;
	if (state == FF_SHARED_WATCHED) {
		/* It may be in the midst of it when the stop comes. */
		shared->stale = true;
		shared->uncertain = true;
	}
	spin_unlock(&shared->lock);
	if (state != FF_SHARED_ARMED)
		return;
	/* Of a page that is removed as a whole we keep the reference; nobody writes to it any more. */
	if (offset_in_page(start))
		ff_shared_copy_range(shared, first, first, FF_PATH_FILE);
	if (end != -1 && offset_in_page(end + 1))
		ff_shared_copy_range(shared, last, last, FF_PATH_FILE);
	ff_shared_copy_large(shared, first, last);
	ff_note_stall(&shared->stall_ns, begin);
}

/* ---- the rest ---------------------------------------------------------- */

static int ff_shared_finalize_block(struct ff_snapshot *snap, struct ff_shared *shared, struct ff_block *block,
				    struct ff_pace *pace)
{
	u32 index = 0;

	/* One at a time, for a fault in this block waits meanwhile. */
	while ((index = find_next_bit(block->armed, PTRS_PER_PTE, index)) < PTRS_PER_PTE) {
		spin_lock(&block->lock);
		ff_block_copy(shared, block, index, index + 1, NULL, FF_PATH_BACKGROUND);
		spin_unlock(&block->lock);
		index++;
		ff_pace(pace);
	}
	if (fatal_signal_pending(current))
		return ff_fail(snap, -EINTR, FF_REASON_INTERRUPTED, -1, 0);
	return 0;
}

int ff_shared_finalize(struct ff_snapshot *snap, struct ff_pace *pace)
{
	struct ff_shared *shared;
	struct ff_block *block;
	unsigned long key;
	int err;

	list_for_each_entry(shared, &snap->shared, link) {
		xa_for_each(&shared->blocks, key, block)
		{
			err = ff_shared_finalize_block(snap, shared, block, pace);
			if (err)
				return err;
		}
		if (READ_ONCE(shared->lost))
			return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	}
	return 0;
}

bool ff_shared_end(struct ff_snapshot *snap)
{
	struct ff_shared *shared;
	bool any = false;

	list_for_each_entry(shared, &snap->shared, link) {
		spin_lock(&shared->lock);
		shared->state = FF_SHARED_OVER;
		spin_unlock(&shared->lock);
		any |= shared->hooked;
		ff_hook_remove_shared(shared);
	}
	return any;
}

/* ---- handing over ------------------------------------------------------ */

/* What the page at one index comes to. */
static u32 ff_shared_kind(const struct ff_block *block, pgoff_t index)
{
	u32 bit = ff_block_index(index);

	return block ? test_bit(bit, block->held) | test_bit(bit, block->unreadable) << 1 : 0;
}

static void ff_shared_collect_block(struct ff_snapshot *snap, struct ff_space *space, struct ff_vma *vma,
				    struct ff_block *block, pgoff_t first, pgoff_t last)
{
	pgoff_t index = max(first, block->first), end = min(last, block->first + PTRS_PER_PTE - 1);

	for (; index <= end; index++) {
		unsigned long addr = vma->image.start + ((index - first) << PAGE_SHIFT);
		struct page *page = block->pages[ff_block_index(index)];

		switch (ff_shared_kind(block, index)) {
		case 0:
			break;
		case 1:
			get_page(page);
			if (ff_pages_push_once(&snap->pages, addr, page, FF_RUN_COPIED)) {
				snap->take->counts.pages_copied++;
				space->copied_pages++;
			}
			break;
		default:
			ff_pages_push_unreadable(&snap->pages, addr);
		}
	}
}

static int ff_shared_collect_vma(struct ff_snapshot *snap, struct ff_space *space, struct ff_vma *vma)
{
	pgoff_t first = vma->vm_pgoff, last = first + ((vma->image.end - vma->image.start) >> PAGE_SHIFT) - 1;
	struct ff_pages *pages = &snap->pages;
	struct ff_block *block;
	unsigned long key;
	u32 before = pages->run_count;

	ff_pages_break_run(pages);
	xa_for_each_range(&vma->shared->blocks, key, block, first >> FF_BLOCK_ORDER, last >> FF_BLOCK_ORDER)
	{
		/* A run for each page at the most: see ff_lazy_collect_vma(). */
		if (ff_pages_reserve(pages, PTRS_PER_PTE, PTRS_PER_PTE))
			return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
		ff_shared_collect_block(snap, space, vma, block, first, last);
	}
	vma->image.first_run = before;
	vma->image.run_count = pages->run_count - before;
	cond_resched();
	return 0;
}

int ff_shared_collect(struct ff_snapshot *snap, struct ff_space *space)
{
	u32 index;
	int err = 0;

	for (index = 0; index < space->vma_count && !err; index++) {
		if (space->vmas[index].shared)
			err = ff_shared_collect_vma(snap, space, &space->vmas[index]);
	}
	return err;
}

void ff_shared_count(struct ff_snapshot *snap)
{
	struct ff_counts *counts = &snap->take->counts;
	struct ff_shared *shared;
	struct ff_block *block;
	unsigned long key;
	u32 path;

	list_for_each_entry(shared, &snap->shared, link) {
		snap->take->stall_ns = max(snap->take->stall_ns, shared->stall_ns);
		xa_for_each(&shared->blocks, key, block)
		{
			counts->pages_shared += bitmap_weight(block->held, PTRS_PER_PTE);
			counts->pages_unreadable += bitmap_weight(block->unreadable, PTRS_PER_PTE);
			counts->pages_shared_stop += block->finalized[FF_PATH_STOP];
			for (path = 0; path < FF_PATH_COUNT; path++)
				counts->finalized[path] += block->finalized[path];
		}
	}
}

static void ff_shared_free_one(struct ff_shared *shared)
{
	struct ff_block *block;
	struct page *page, *next;
	unsigned long key;

	xa_for_each(&shared->blocks, key, block)
	{
		ff_block_free(block);
		cond_resched();
	}
	xa_destroy(&shared->blocks);
	list_for_each_entry_safe(page, next, &shared->spare, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
	kfree(shared->ranges);
	fput(shared->file);
	kfree(shared);
}

void ff_shared_free(struct ff_snapshot *snap)
{
	struct ff_shared *shared, *next;

	list_for_each_entry_safe(shared, next, &snap->shared, link) {
		list_del(&shared->link);
		ff_shared_free_one(shared);
	}
}
