/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The pages that a snapshot holds, and the runs of addresses that they stand for. */
#ifndef FF_PAGES_H
#define FF_PAGES_H

#include <linux/mm.h>
#include <linux/xarray.h>

#include "freezeframe.h"

struct ff_pages {
	struct page ***chunks; /* FF_PAGES_PER_CHUNK pointers each; every page is a reference */
	u64 chunk_count;
	u64 chunk_limit; /* room in chunks */
	u64 count;
	struct page **next; /* where the next page's pointer goes; at the start of a page: into the next chunk */

	struct ff_image_run *runs;
	u32 run_count;
	u32 run_limit;
	unsigned long run_end; /* the address that continues the last run, or FF_NO_RUN */
	u64 run_page;	       /* the data page that continues it */
	u32 run_flags;
	struct xarray *shared; /* data page by address of its struct page; NULL: nothing can be there twice */

	struct list_head spare; /* pages for copies, linked by page->lru */
	u32 spare_count;
};

#define FF_PAGES_PER_CHUNK (PAGE_SIZE / sizeof(struct page *))
#define FF_NO_RUN 1ul /* no page has that address */

void ff_pages_init(struct ff_pages *pages);
/* Both reserve so that as many pushes cannot fail; they sleep. */
int ff_pages_reserve(struct ff_pages *pages, u64 page_room, u32 run_room);
int ff_pages_reserve_spare(struct ff_pages *pages, u32 room);
/* From here on ff_pages_push_once() looks for pages that are there already. Sleeps. */
int ff_pages_share(struct ff_pages *pages);
void ff_pages_new_run(struct ff_pages *pages, unsigned long vaddr, u64 page, u32 flags);
/* As ff_pages_push(), for a page that may be there already: then it is not stored twice, and this is false. */
bool ff_pages_push_once(struct ff_pages *pages, unsigned long vaddr, struct page *page, u32 flags);
void ff_pages_push_unreadable(struct ff_pages *pages, unsigned long vaddr);
/* A page from the spare ones, or NULL. */
struct page *ff_pages_take_spare(struct ff_pages *pages);
void ff_pages_drop_spare(struct ff_pages *pages);
/* All pages are there. */
void ff_pages_unshare(struct ff_pages *pages);
/* The next push begins a new run, whatever its address. */
void ff_pages_break_run(struct ff_pages *pages);
/* NULL: let go. */
struct page *ff_pages_get(const struct ff_pages *pages, u64 index);
/* Takes the reference out. */
struct page *ff_pages_take(struct ff_pages *pages, u64 index);
void ff_pages_free(struct ff_pages *pages);

/* Takes over the caller's reference to @page. Inline: in the stop, it runs once per page. */
static __always_inline void ff_pages_push(struct ff_pages *pages, unsigned long vaddr, struct page *page, u32 flags)
{
	if (unlikely(vaddr != pages->run_end || flags != pages->run_flags || pages->count != pages->run_page))
		ff_pages_new_run(pages, vaddr, pages->count, flags);
	if (unlikely(!offset_in_page(pages->next)))
		pages->next = pages->chunks[pages->count / FF_PAGES_PER_CHUNK];
	*pages->next++ = page;
	pages->run_page = ++pages->count;
	pages->runs[pages->run_count - 1].pages++;
	pages->run_end = vaddr + PAGE_SIZE;
}

#endif
