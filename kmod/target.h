/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_TARGET_H
#define FF_TARGET_H

#include "snapshot.h"

/* Resolves the caller's targets into the snapshot's processes and address spaces, or refuses them. */
int ff_targets_resolve(struct ff_snapshot *snap);
/* In the stop: did a target exit or execve between the two? */
int ff_targets_recheck(struct ff_snapshot *snap);

#endif
