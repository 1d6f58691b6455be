/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The disk's half of a snapshot: the filesystems that freeze with the targets, and the devices beneath that are
 * switched to a dm-snapshot before they thaw.
 *
 * All of it is done by a thread of the module, which the take only asks: a fatal signal to the caller interrupts
 * nothing half-way, a filesystem that does not freeze holds up nobody but the thread, and whatever becomes of the
 * caller, the thread undoes what it did, in reverse order: devices that were not switched lose the new table and are
 * resumed, filesystems are thawed.
 */
#ifndef FF_DISK_H
#define FF_DISK_H

#include "snapshot.h"

/* Resolves filesystems and devices. */
int ff_disk_open(struct ff_snapshot *snap);
/* Loads the new tables, writes back what is dirty. Nobody stands still. */
int ff_disk_prepare(struct ff_snapshot *snap);
int ff_disk_freeze(struct ff_snapshot *snap);
int ff_disk_switch(struct ff_snapshot *snap);
int ff_disk_thaw(struct ff_snapshot *snap);
/*
 * On success or failure: what is not thawed is, and the caller's arrays are written back. Returns before that only
 * where the thread hangs in a filesystem, and then the thread goes on by itself. Safe more than once.
 */
void ff_disk_end(struct ff_snapshot *snap);

#endif
