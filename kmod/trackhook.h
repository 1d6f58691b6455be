/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The hooks of track.h. */
#ifndef FF_TRACKHOOK_H
#define FF_TRACKHOOK_H

#include <linux/types.h>

/* Never fails the module: what cannot be hooked is told by ff_track_hooks_ready(). */
void ff_track_hooks_init(void);
void ff_track_hooks_exit(void);
/* Are they all in place, and does the kernel have such bits? */
bool ff_track_hooks_ready(void);

#endif
