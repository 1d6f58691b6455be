// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "pages.h"

#include <linux/slab.h>

void ff_pages_init(struct ff_pages *pages)
{
	memset(pages, 0, sizeof(*pages));
	INIT_LIST_HEAD(&pages->spare);
	pages->run_end = FF_NO_RUN;
}

static int ff_pages_grow_directory(struct ff_pages *pages, u64 chunks)
{
	u64 limit = max(chunks, pages->chunk_limit * 2);
	struct page ***bigger = kvcalloc(limit, sizeof(*bigger), GFP_KERNEL);

	if (!bigger)
		return -ENOMEM;
	if (pages->chunks)
		memcpy(bigger, pages->chunks, pages->chunk_count * sizeof(*bigger));
	kvfree(pages->chunks);
	pages->chunks = bigger;
	pages->chunk_limit = limit;
	return 0;
}

static int ff_pages_grow_runs(struct ff_pages *pages, u32 room)
{
	u32 limit = max(pages->run_count + room, pages->run_limit * 2);
	struct ff_image_run *bigger = kvmalloc_array(limit, sizeof(*bigger), GFP_KERNEL);

	if (!bigger)
		return -ENOMEM;
	if (pages->runs)
		memcpy(bigger, pages->runs, pages->run_count * sizeof(*bigger));
	kvfree(pages->runs);
	pages->runs = bigger;
	pages->run_limit = limit;
	return 0;
}

int ff_pages_reserve(struct ff_pages *pages, u64 page_room, u32 run_room)
{
	u64 chunks = DIV_ROUND_UP(pages->count + page_room, FF_PAGES_PER_CHUNK);
	int err;

	if (chunks > pages->chunk_limit) {
		err = ff_pages_grow_directory(pages, chunks);
		if (err)
			return err;
	}
	while (pages->chunk_count < chunks) {
		void *chunk = (void *)__get_free_page(GFP_KERNEL);

		if (!chunk)
			return -ENOMEM;
		pages->chunks[pages->chunk_count++] = chunk;
	}
	if (pages->run_count + run_room > pages->run_limit)
		return ff_pages_grow_runs(pages, run_room);
	return 0;
}

int ff_pages_reserve_spare(struct ff_pages *pages, u32 room)
{
	while (pages->spare_count < room) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			return -ENOMEM;
		list_add(&page->lru, &pages->spare);
		pages->spare_count++;
	}
	return 0;
}

struct page *ff_pages_take_spare(struct ff_pages *pages)
{
	struct page *page = list_first_entry_or_null(&pages->spare, struct page, lru);

	if (page) {
		list_del(&page->lru);
		pages->spare_count--;
	}
	return page;
}

void ff_pages_drop_spare(struct ff_pages *pages)
{
	struct page *page;

	while ((page = ff_pages_take_spare(pages)))
		__free_page(page);
}

void ff_pages_new_run(struct ff_pages *pages, unsigned long vaddr, u32 flags)
{
	struct ff_image_run *run = &pages->runs[pages->run_count++];

	run->vaddr = vaddr;
	run->page = pages->count;
	run->pages = 0;
	run->flags = flags;
	pages->run_flags = flags;
}

void ff_pages_push_unreadable(struct ff_pages *pages, unsigned long vaddr)
{
	if (vaddr != pages->run_end || pages->run_flags != FF_RUN_UNREADABLE)
		ff_pages_new_run(pages, vaddr, FF_RUN_UNREADABLE);
	pages->runs[pages->run_count - 1].pages++;
	pages->run_end = vaddr + PAGE_SIZE;
}

void ff_pages_break_run(struct ff_pages *pages)
{
	pages->run_end = FF_NO_RUN;
}

struct page *ff_pages_get(const struct ff_pages *pages, u64 index)
{
	return pages->chunks[index / FF_PAGES_PER_CHUNK][index % FF_PAGES_PER_CHUNK];
}

void ff_pages_free(struct ff_pages *pages)
{
	u64 index;

	for (index = 0; index < pages->count; index++) {
		put_page(ff_pages_get(pages, index));
		if (!(index % FF_PAGES_PER_CHUNK))
			cond_resched();
	}
	for (index = 0; index < pages->chunk_count; index++)
		free_page((unsigned long)pages->chunks[index]);
	ff_pages_drop_spare(pages);
	kvfree(pages->chunks);
	kvfree(pages->runs);
	ff_pages_init(pages);
}
