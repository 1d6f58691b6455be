/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * PUD arming. The stop takes the write bit out of the entries that map a gigabyte each, and leaves the page tables
 * below alone; so the window does not grow with the memory. Software does not look at that bit (pud_bad() of x86
 * ignores it), the CPU does: the first write to the gigabyte faults, and comes to hook.c. There, or when a change is
 * announced, or when FF_IOC_TAKE comes to it after the window, the gigabyte is "opened": armed as LAZY does it, and the
 * bit set again. No TLB is flushed for that: since the stop none holds a writable entry of the gigabyte.
 *
 * Until it is opened nothing below it changes, for the same reason as in lazy.h. GUP does not look at the bit either:
 * hook.c opens what GUP is about to hand out for writing.
 */
#ifndef FF_GIB_H
#define FF_GIB_H

#include "lazy.h"
#include "walk.h"

enum ff_gib_state {
	FF_GIB_NEW = 0,	   /* the stop has not come to it */
	FF_GIB_ARMED = 1,  /* write-protected as a whole */
	FF_GIB_OPENED = 2, /* armed lazily, or not to be armed any more */
};

struct ff_gib {
	spinlock_t lock; /* guards state; outside those of the leaves */
	unsigned long addr;
	pud_t *pudp;
	u32 state;  /* enum ff_gib_state */
	bool stale; /* not every page is there, or a page table is not known: to be walked in the stop */
};

/* Notes the gigabyte at @addr. Sleeps. */
int ff_gib_note(struct ff_lazy *lazy, unsigned long addr);
/* Before the stop: pages may have gone from the range, or page tables come. */
void ff_gib_check(struct ff_lazy *lazy, unsigned long start, unsigned long end);
void ff_gib_mark_stale(struct ff_lazy *lazy, unsigned long addr);
/* Before the stop: would it be armed as a whole? */
bool ff_gib_rehearse(struct ff_lazy *lazy, unsigned long addr);
/* How a VMA is armed. In the stop. */
extern const struct ff_walk_ops ff_gib_ops;
/* Opens every gigabyte that the range touches; was there one to open? Never sleeps. */
bool ff_gib_open(struct ff_lazy *lazy, unsigned long start, unsigned long end);
/* After a failure: gives the write bits back. */
void ff_gib_disarm(struct ff_lazy *lazy);
void ff_gib_free(struct ff_lazy *lazy);

#endif
