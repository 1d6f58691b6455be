/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Device-mapper devices: their tables are switched by the ioctls of the control file, for the functions behind them are
 * not exported. Those take their arguments from user memory: the caller gets a mapping of ours for that, and a thread
 * of ours, which borrows the caller's address space, makes the calls; so no death of the caller's interrupts them.
 */
#ifndef FF_DM_H
#define FF_DM_H

#include <linux/fs.h>
#include <linux/kdev_t.h>

#include "freezeframe.h"

/* What a device has of the mapping: for the header of a call, one target and its parameters. */
#define FF_DM_BYTES (2 * PAGE_SIZE)

/* Major and minor number of a struct ff_switch's device, for "%u:%u". */
#define FF_DM_NUMBERS(device) MAJOR(huge_decode_dev((device)->dev)), MINOR(huge_decode_dev((device)->dev))

struct ff_dm {
	struct file *control; /* /dev/mapper/control, or NULL */
	struct file *file;    /* has the memory of the arguments */
	void *buffer;	      /* that memory as we see it */
	unsigned long user;   /* and as the caller's address space has it */
	size_t bytes;
};

struct ff_switched {
	struct ff_switch user; /* what the caller asked, and what it is told */
	u32 slot;	       /* its part of the mapping */
	bool loaded;	       /* the new table is in the inactive slot */
	bool suspended;	       /* by us */
};

/* In the caller's context. */
int ff_dm_open(struct ff_dm *dm, int control, u32 devices);
void ff_dm_close(struct ff_dm *dm);

/* In a thread that borrows the caller's address space; those of several devices at the same time. */
int ff_dm_load(struct ff_dm *dm, struct ff_switched *device);
int ff_dm_suspend(struct ff_dm *dm, struct ff_switched *device);
/* To the loaded table. */
int ff_dm_switch(struct ff_dm *dm, struct ff_switched *device);
/* Back to how it was, unless it was switched. Safe at any time, more than once. */
void ff_dm_undo(struct ff_dm *dm, struct ff_switched *device);

#endif
