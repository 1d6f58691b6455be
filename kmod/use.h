/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Pages in use: somebody writes to them behind the page tables, now or at any time, as the device of a direct read
 * does. A copy-on-write would part that somebody from the process, so these pages are copied in the stop instead.
 */
#ifndef FF_USE_H
#define FF_USE_H

#include <linux/mm.h>

#include "compat.h"
#include "test.h"

/*
 * A large folio that is met part by part. The parts share one count, so what explains it is remembered: how many page
 * table entries map them (looked up once, for on 6.1 that is a look at each), and how many references are ours.
 * Where the parts stand in several places, ours from the first place look like somebody's, and the rest is copied.
 */
struct ff_large {
	struct folio *folio;
	int mapped;
	int held;
};

static __maybe_unused noinline void ff_large_meet(struct ff_large *large, struct folio *folio)
{
	if (large->folio == folio)
		return;
	large->folio = folio;
	large->mapped = ff_folio_mapped(folio);
	large->held = 0;
}

/*
 * Is an exclusive page in use: does somebody hold a reference that neither the swap cache nor @explained, the number of
 * its mappings and of our own references, accounts for? Pins are such references. So are those of direct reads from
 * block devices before 6.5 and from NFS and 9p after it, and nothing tells those from any others. So others, too, cost
 * a copy; they are few: what lies in the LRU's batches, one per CPU, and what is isolated for reclaim.
 *
 * Asked once the entry is write-protected and the page not marked exclusive any more. GUP-fast takes its reference
 * first and then looks at both again: either it sees the change and gives the reference back, or we see the reference.
 */
static __always_inline bool ff_folio_in_use(struct folio *folio, int explained)
{
	int count;

	if (ff_test_sees_no_use())
		return false;
	smp_mb__after_atomic(); /* ClearPageAnonExclusive() */
	count = folio_ref_count(folio);
	if (likely(count <= explained))
		return false;
	if (folio_test_swapcache(folio))
		explained += folio_nr_pages(folio);
	return count > explained;
}

#endif
