/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Shared memory without a file on a disk (shmem): tmpfs, memfd, MAP_SHARED | MAP_ANONYMOUS, System V's. The kernel has
 * no copy-on-write there, so we make one. `prepare` takes a reference to every page of the file that the targets map;
 * so no page of them is swapped, migrated or merged before we let go of it. The stop write-protects the targets' page
 * table entries, and no more. A page is copied before it changes for the first time, or by FF_IOC_TAKE after the
 * window, whichever comes first; then the reference goes. What makes this sound:
 *
 *   From the stop on, whoever changes a page passes one of the hooks in hook.c first.
 *
 * For a page is changed through a page table entry, which becomes writable in a page fault (handle_mm_fault(), and what
 * it maps around the address, filemap_map_pages()), by mprotect and userfaultfd (change_protection()), by
 * UFFDIO_CONTINUE (mfill_atomic_install_pte()), or when a migration ends or is given up, since what it restores is
 * writable (try_to_migrate()); or through the file, by write() (shmem_write_begin()), or by truncation and the punching
 * of holes, which write zeros into what is not removed as a whole (shmem_undo_range()).
 *
 * What was under way before the hooks listened, and whoever got hold of a page for writing (GUP), is known by the
 * page's references, or noted until the stop; such pages ("suspects") are copied in the stop. All of them are where
 * somebody else has the file mapped writable, since we do not look into the page tables of processes that are not
 * targets.
 */
#ifndef FF_SHARED_H
#define FF_SHARED_H

#include <linux/xarray.h>

#include "snapshot.h"

struct ff_leaf;
struct ff_pace;

enum ff_shared_state {
	FF_SHARED_WATCHED = 0, /* before the stop: what is to be noted is noted */
	FF_SHARED_ARMED = 1,   /* copied before it changes */
	FF_SHARED_OVER = 2,    /* all of it is copied, or nothing is to be copied any more */
};

struct ff_shared_range {
	pgoff_t first, last;
};

/* One file. */
struct ff_shared {
	struct address_space *mapping;
	struct file *file; /* reference; keeps mapping */
	struct list_head link;
	struct hlist_node hash; /* hook.c */
	bool hooked;
	struct xarray blocks; /* struct ff_block by index / PTRS_PER_PTE; only ever grows */
	struct ff_shared_range *ranges;
	u32 range_count, range_limit;
	u32 vmas;		/* that map it writable, of the targets */
	u64 expected;		/* pages to be held, at most */
	u64 pages;		/* held */
	unsigned long nrpages;	/* of the file, when it was scanned */
	unsigned long swapped;	/* the same of those in swap */
	bool lost;		/* a page could not be copied */
	u64 stall_ns;		/* the longest that a change was kept waiting */
	spinlock_t lock;	/* guards what follows */
	u32 state;		/* enum ff_shared_state */
	bool suspects;		/* there are some */
	bool uncertain;		/* everything is suspect */
	bool stale;		/* pages may have gone, or ranges come */
	struct list_head spare; /* a page to copy to for each that is held and not copied */
	u64 spare_count;
};

/* Is this a mapping of that kind? */
bool ff_vma_is_shmem(struct vm_area_struct *vma);

/* In the stop: are its entries to be write-protected? What cannot be written to has none that are writable. */
static inline bool ff_vma_is_shared_lazily(const struct ff_vma *vma)
{
	return vma->shared && (vma->vm_flags & VM_WRITE) && READ_ONCE(vma->shared->state) == FF_SHARED_ARMED;
}

/* Finds the files that the VMAs noted map, and counts their pages. */
int ff_shared_find(struct ff_snapshot *snap);
/* At most so many pages are copied. */
u64 ff_shared_expected(const struct ff_snapshot *snap);
/* Takes the references. After ff_lazy_begin() of every space, so that nothing is handed out for writing unseen. */
int ff_shared_prepare(struct ff_snapshot *snap);
/* In the stop, before the address spaces are armed. */
int ff_shared_stop(struct ff_snapshot *snap);
/* Copies what is suspect in one page table, and what it maps of shared memory. In the stop. */
void ff_shared_settle(struct ff_space *space, const struct ff_leaf *leaf);
/* Copies what is left. Outside the stop. */
int ff_shared_finalize(struct ff_snapshot *snap, struct ff_pace *pace);
/* No hook touches it any more, once ff_hook_drain() returns. Returns whether there is need for that. */
bool ff_shared_end(struct ff_snapshot *snap);
/* Hands the copies over to the snapshot, VMA by VMA. After ff_shared_finalize(). */
int ff_shared_collect(struct ff_snapshot *snap, struct ff_space *space);
void ff_shared_count(struct ff_snapshot *snap);
/* After ff_shared_end() and ff_hook_drain(). */
void ff_shared_free(struct ff_snapshot *snap);

/* For hook.c; none of them sleeps. @known: the fault is one of a target. */
void ff_shared_fault(struct ff_shared *shared, pgoff_t index, bool known);
/* Pages @first to @last are about to be mapped so that they can be written to. */
void ff_shared_map(struct ff_shared *shared, pgoff_t first, pgoff_t last, enum ff_path path);
/* They may be changed, or become writable, at any time from now on: what began before the stop may end after it. */
void ff_shared_change(struct ff_shared *shared, pgoff_t first, pgoff_t last, enum ff_path path);
/* Bytes @start to @end are about to be written over with zeros, or removed. */
void ff_shared_truncate(struct ff_shared *shared, loff_t start, loff_t end);

#endif
