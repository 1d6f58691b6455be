/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_PHASES_H
#define FF_PHASES_H

#include "snapshot.h"

/*
 * Takes @snap through its phases, from `prepare` to `finalize`, each with its times. On failure everybody runs again
 * and everything is thawed; what @snap holds of memory is the caller's to free.
 */
int ff_take_phases(struct ff_snapshot *snap);

#endif
