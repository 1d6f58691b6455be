// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "block.h"

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/slab.h>

struct ff_block *ff_block_new(pgoff_t index)
{
	struct ff_block *block = kzalloc(sizeof(*block), GFP_KERNEL);

	if (!block)
		return NULL;
	block->pages = (struct page **)__get_free_page(GFP_KERNEL);
	if (!block->pages) {
		kfree(block);
		return NULL;
	}
	spin_lock_init(&block->lock);
	block->first = round_down(index, PTRS_PER_PTE);
	return block;
}

void ff_block_free(struct ff_block *block)
{
	u32 index;

	for_each_set_bit(index, block->held, PTRS_PER_PTE)
		put_page(block->pages[index]);
	free_page((unsigned long)block->pages);
	kfree(block);
}

void ff_block_hold(struct ff_block *block, u32 index, struct page *page)
{
	if (PageHWPoison(page)) {
		__set_bit(index, block->unreadable);
		put_page(page);
		return;
	}
	block->pages[index] = page;
	__set_bit(index, block->held);
	__set_bit(index, block->armed);
}

static struct page *ff_shared_take_spare(struct ff_shared *shared)
{
	struct page *page;

	spin_lock(&shared->lock);
	page = list_first_entry_or_null(&shared->spare, struct page, lru);
	if (page) {
		list_del(&page->lru);
		shared->spare_count--;
	}
	spin_unlock(&shared->lock);
	return page;
}

static void ff_block_copy_one(struct ff_shared *shared, struct ff_block *block, u32 index)
{
	struct page *page = block->pages[index], *copy;

	/* A page that was removed from the file as a whole is ours alone, and stays as it is. */
	if (page_folio(page)->mapping != shared->mapping && PageUptodate(page)) {
		__clear_bit(index, block->armed);
		return;
	}
	copy = ff_shared_take_spare(shared);
	/* There is one for each. */
	if (WARN_ON_ONCE(!copy)) {
		WRITE_ONCE(shared->lost, true);
		return;
	}
	if (PageUptodate(page))
		copy_highpage(copy, page);
	else /* fallocated and never written */
		clear_highpage(copy);
	block->pages[index] = copy;
	__clear_bit(index, block->armed);
	put_page(page);
}

u32 ff_block_copy(struct ff_shared *shared, struct ff_block *block, u32 first, u32 last, const unsigned long *wanted,
		  enum ff_path path)
{
	u32 index, copied = 0;

	for (index = first; index < last; index++) {
		index = wanted ? find_next_and_bit(wanted, block->armed, last, index) :
				 find_next_bit(block->armed, last, index);
		if (index >= last)
			break;
		ff_block_copy_one(shared, block, index);
		copied++;
	}
	block->finalized[path] += copied;
	return copied;
}

void ff_block_forget(struct ff_shared *shared, struct ff_block *block)
{
	u32 index;

	for_each_set_bit(index, block->armed, PTRS_PER_PTE) {
		struct page *page = block->pages[index];

		if (page_folio(page)->mapping == shared->mapping)
			continue;
		__clear_bit(index, block->held);
		__clear_bit(index, block->armed);
		put_page(page);
	}
}
