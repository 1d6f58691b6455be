// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "pages.h"

#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"

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
	/* kvmalloc() gives no more than INT_MAX bytes. */
	struct ff_image_run *bigger = vmalloc_array(limit, sizeof(*bigger));

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

void ff_pages_new_run(struct ff_pages *pages, unsigned long vaddr, u64 page, u32 flags)
{
	struct ff_image_run *run = &pages->runs[pages->run_count];

	/* Never: the callers have reserved it. What lies behind is others' memory. */
	if (WARN_ON_ONCE(pages->run_count == pages->run_limit))
		return;
	pages->run_count++;
	run->vaddr = vaddr;
	run->page = page;
	run->pages = 0;
	run->flags = flags;
	pages->run_flags = flags;
}

void ff_pages_push_unreadable(struct ff_pages *pages, unsigned long vaddr)
{
	if (vaddr != pages->run_end || pages->run_flags != FF_RUN_UNREADABLE)
		ff_pages_new_run(pages, vaddr, pages->count, FF_RUN_UNREADABLE);
	pages->runs[pages->run_count - 1].pages++;
	pages->run_end = vaddr + PAGE_SIZE;
}

int ff_pages_share(struct ff_pages *pages)
{
	if (pages->shared)
		return 0;
	pages->shared = kmalloc(sizeof(*pages->shared), GFP_KERNEL);
	if (!pages->shared)
		return -ENOMEM;
	xa_init(pages->shared);
	return 0;
}

void ff_pages_unshare(struct ff_pages *pages)
{
	if (!pages->shared)
		return;
	xa_destroy(pages->shared);
	kfree(pages->shared);
	pages->shared = NULL;
}

/*
 * Do we hold it more than once? Of a small page each mapping has one reference, and we have one for each place where it
 * was found; of the parts of a large one we cannot tell them apart. Others' references cost a look in vain.
 */
static bool ff_page_may_be_twice(struct page *page)
{
	struct folio *folio = page_folio(page);

	return folio_test_large(folio) || folio_ref_count(folio) > ff_folio_mapped(folio) + 1;
}

/* A run of pages that stand elsewhere. */
static void ff_pages_refer(struct ff_pages *pages, unsigned long vaddr, u64 page, u32 flags)
{
	if (vaddr != pages->run_end || flags != pages->run_flags || page != pages->run_page)
		ff_pages_new_run(pages, vaddr, page, flags);
	pages->runs[pages->run_count - 1].pages++;
	pages->run_page = page + 1;
	pages->run_end = vaddr + PAGE_SIZE;
}

bool ff_pages_push_once(struct ff_pages *pages, unsigned long vaddr, struct page *page, u32 flags)
{
	unsigned long key = page_to_pfn(page);

	if (pages->shared && ff_page_may_be_twice(page)) {
		void *found = xa_load(pages->shared, key);

		if (found) {
			put_page(page);
			ff_pages_refer(pages, vaddr, xa_to_value(found), flags);
			return false;
		}
		/* Where there is no memory for the note, it is stored twice. */
		xa_store(pages->shared, key, xa_mk_value(pages->count), GFP_KERNEL | __GFP_NOWARN);
	}
	ff_pages_push(pages, vaddr, page, flags);
	return true;
}

void ff_pages_break_run(struct ff_pages *pages)
{
	pages->run_end = FF_NO_RUN;
}

struct page *ff_pages_get(const struct ff_pages *pages, u64 index)
{
	return pages->chunks[index / FF_PAGES_PER_CHUNK][index % FF_PAGES_PER_CHUNK];
}

struct page *ff_pages_take(struct ff_pages *pages, u64 index)
{
	struct page **slot = &pages->chunks[index / FF_PAGES_PER_CHUNK][index % FF_PAGES_PER_CHUNK];
	struct page *page = *slot;

	*slot = NULL;
	return page;
}

void ff_pages_free(struct ff_pages *pages)
{
	u64 index;

	for (index = 0; index < pages->count; index++) {
		struct page *page = ff_pages_get(pages, index);

		if (page)
			put_page(page);
		if (!(index % FF_PAGES_PER_CHUNK))
			cond_resched();
	}
	for (index = 0; index < pages->chunk_count; index++)
		free_page((unsigned long)pages->chunks[index]);
	ff_pages_drop_spare(pages);
	ff_pages_unshare(pages);
	kvfree(pages->chunks);
	kvfree(pages->runs);
	ff_pages_init(pages);
}
