/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * LAZY arming. The stop write-protects page table entries and notes which; it looks at no struct page. The pages are
 * held later ("finalized"): by the caller's own pass once the targets run again, or before that by whoever is about
 * to change an entry. What makes this sound:
 *
 *   An armed entry does not change (but for its accessed and dirty bits) before it is finalized.
 *
 * For entries change in page faults, which hook.c sees at the door of handle_mm_fault(), and on behalf of unmap,
 * mprotect, mremap, fork, reclaim, migration, KSM, khugepaged and others, each of which tells the mmu notifiers first
 * (notify.c). The page table itself is freed by none but those, so its address may be kept with the armed bits. Should
 * somebody change one all the same, whoever comes to hold its page finds it otherwise, and the take fails.
 *
 * A page that a device writes to cannot be made copy-on-write (use.h). `prepare` notes where such pages are: it looks
 * at every page once, and from before that look until the stop, hook.c notes what is handed out for writing. These
 * "suspects" are finalized in the stop, with a look at their references, and copied where somebody has one.
 */
#ifndef FF_LAZY_H
#define FF_LAZY_H

#include <linux/llist.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/xarray.h>

#include "snapshot.h"

struct ff_pace;
struct ff_walk;
struct ff_walk_ops;

/* What is known and held of the 2 MiB that one page leaf, or one huge page, maps. */
struct ff_leaf {
	spinlock_t lock; /* guards what follows but for suspect; outside the page table's own lock */
	unsigned long addr;
	pmd_t pmd;	     /* as it was armed */
	pmd_t *pmdp;	     /* where it stands; NULL: not armed */
	bool huge;	     /* pmd maps a huge page */
	bool stopped;	     /* armed in the stop, whatever becomes of its gigabyte */
	bool late;	     /* not there when `prepare` looked: everything in it is suspect */
	bool held_huge;	     /* held as a huge page, by reference */
	struct page **pages; /* PTRS_PER_PTE of them; those in held are references */
	u16 finalized[FF_PATH_COUNT];
	DECLARE_BITMAP(armed, PTRS_PER_PTE); /* write-protected, and not finalized */
	DECLARE_BITMAP(held, PTRS_PER_PTE);
	DECLARE_BITMAP(copied, PTRS_PER_PTE); /* those of held that are copies */
	DECLARE_BITMAP(unreadable, PTRS_PER_PTE);
	DECLARE_BITMAP(clean,
		       PTRS_PER_PTE); /* those of held whose entries say so: unchanged since they were held last */
	DECLARE_BITMAP(suspect, PTRS_PER_PTE); /* maybe in use; set by anybody, at any time before the stop */
	struct llist_node suspects;
	unsigned long listed; /* bit 0: in ff_lazy.suspects */
};

/* The lazily armed state of one address space. */
struct ff_lazy {
	struct mm_struct *mm;
	struct ff_space *space;
	struct hlist_node link; /* hook.c */
	struct xarray tables;	/* struct ff_leaf by address / PMD_SIZE; only ever grows */
	struct xarray gibs;	/* struct ff_gib by address / PUD_SIZE; empty but in PUD mode (gib.h) */
	struct llist_head suspects;
	bool uncertain;	       /* a suspect may have moved: all are suspects */
	bool lost;	       /* a page could not be held, for want of memory */
	unsigned long changed; /* the address of an armed entry that is not as it was armed: its page is gone */
	bool over;	       /* nothing is to be finalized any more */
	bool track;	       /* what is held is marked as unchanged from here on (track.h) */
	u64 stall_ns;	       /* the longest that one fault or notification was kept here */

	struct mmu_notifier notifier;
	bool watched;		 /* the notifier is registered */
	bool stopped;		 /* the stop has come: what is to be noted is noted */
	bool settled;		 /* the suspects are held */
	spinlock_t notices_lock; /* guards the following */
	u32 notices;		 /* changes announced and not over */
	unsigned long notices_start, notices_end;
};

/* Watches @space from here on; then ff_walk_count() looks for suspects. mmap_lock not held. */
int ff_lazy_begin(struct ff_snapshot *snap, struct ff_space *space);
/* `prepare` has met a private page: is it in use? Nothing to do where the space is armed eagerly. */
void ff_lazy_scan_page(struct ff_walk *walk, unsigned long addr, struct page *page);
/* It has met a page that is not there. */
void ff_lazy_scan_hole(struct ff_walk *walk, unsigned long addr);
/* Looks at what arming the table at @addr will write to. */
void ff_lazy_rehearse(struct ff_lazy *lazy, unsigned long addr);
/* How a VMA is armed. In the stop. */
extern const struct ff_walk_ops ff_lazy_ops;
int ff_lazy_arm_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end);
int ff_lazy_arm_huge(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end);
struct ff_leaf *ff_lazy_add_leaf(struct ff_lazy *lazy, unsigned long addr, bool late, gfp_t gfp);
/* Finalizes the suspects. In the stop, after the TLBs are flushed. */
int ff_lazy_settle(struct ff_walk *walk);
/* Finalizes what is left. Outside the stop. */
int ff_lazy_finalize(struct ff_snapshot *snap, struct ff_space *space, struct ff_pace *pace);
/* Stops watching, in all spaces at once. Safe more than once, and at any point. */
void ff_lazy_end(struct ff_snapshot *snap);
/* Hands the pages over to the snapshot, in the order of their addresses. After ff_lazy_end(). */
int ff_lazy_collect(struct ff_snapshot *snap, struct ff_space *space);
/* After ff_lazy_end(). */
void ff_lazy_free(struct ff_lazy *lazy);

/* For hook.c and notify.c: finalize before something changes; deal with a range that is handed out for writing. */
void ff_lazy_fault(struct ff_lazy *lazy, unsigned long addr);
void ff_lazy_range(struct ff_lazy *lazy, unsigned long start, unsigned long end, bool may_sleep);
/* Notes a range that somebody else may write to. Before the stop. */
void ff_lazy_suspect(struct ff_lazy *lazy, unsigned long start, unsigned long end);
/* @forced: no page fault will tell of the writing. */
void ff_lazy_gup(struct ff_lazy *lazy, unsigned long start, unsigned long end, bool forced);
bool ff_lazy_has_suspects(struct ff_lazy *lazy, unsigned long start, unsigned long end);

#endif
