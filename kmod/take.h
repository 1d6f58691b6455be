/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_TAKE_H
#define FF_TAKE_H

#include <linux/mutex.h>

#include "snapshot.h"

extern struct mutex ff_take_lock;

/*
 * One snapshot from its first phase to the file that yields its image. Fills @take on success and on failure.
 * Takes are serialized: a second one waits until the first has thawed its targets.
 */
int ff_take(struct ff_take *take, struct file **file);
u32 ff_open_snapshots(void);
void ff_take_module_init(void);
/* Tells this load of the module from every other. */
u64 ff_instance(void);

#endif
