/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Finds the threads of the targets, those that are born meanwhile too, and asks each to park. */
#ifndef FF_SCAN_H
#define FF_SCAN_H

#include "freezer.h"

int ff_scan_module_init(void);
void ff_scan_module_exit(void);

/* Allocates for @count threads. */
int ff_scan_reserve(struct ff_freezer *freezer, u32 count);
/* Looks at what the scan will look at. */
void ff_scan_rehearse(struct ff_snapshot *snap);
/* From here on newborn threads are asked before they run. */
void ff_scan_begin(struct ff_snapshot *snap);
/* Asks every thread that is not known yet; returns how many there were. */
u32 ff_scan(struct ff_snapshot *snap);
/* No thread is asked any more. Safe without ff_scan_begin(). */
void ff_scan_end(void);

#endif
