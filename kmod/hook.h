/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Hooks in the kernel's memory management, by ftrace: page faults, and pages that are handed out for writing. */
#ifndef FF_HOOK_H
#define FF_HOOK_H

#include <linux/types.h>

struct ff_lazy;
struct ff_shared;

/* Never fails the module: what cannot be hooked is told by ff_hook_ready(). */
void ff_hook_module_init(void);
void ff_hook_module_exit(void);
/* Are all hooks in place: those for private memory, those for shared memory, those for what has changed? */
bool ff_hook_ready(void);
bool ff_hook_shared_ready(void);
bool ff_hook_track_ready(void);
/* From here on page faults of its address space come to @lazy. */
void ff_hook_add(struct ff_lazy *lazy);
/* No new ones come. Safe more than once. */
void ff_hook_remove(struct ff_lazy *lazy);
/* The same for what happens to a shared file. */
void ff_hook_add_shared(struct ff_shared *shared);
void ff_hook_remove_shared(struct ff_shared *shared);
/* When this returns, none is there any more of those that were removed. Sleeps for milliseconds. */
void ff_hook_drain(void);

#endif
