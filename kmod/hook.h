/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Hooks in the kernel's memory management, by ftrace: page faults, and pages that are handed out for writing. */
#ifndef FF_HOOK_H
#define FF_HOOK_H

#include <linux/ftrace.h>
#include <linux/types.h>

struct ff_lazy;
struct ff_shared;

struct ff_hook {
	struct ftrace_ops ops;
	const char *symbol;
	bool filtered;
	bool registered;
};

/* All or none; says what follows from none. */
void ff_hooks_register(struct ff_hook *hooks, u32 count, const char *consequence);
void ff_hooks_unregister(struct ff_hook *hooks, u32 count);

/* Never fails the module: what cannot be hooked is told by ff_hook_ready(). */
void ff_hook_module_init(void);
void ff_hook_module_exit(void);
/* Are all hooks in place: those for private memory, those for shared memory? */
bool ff_hook_ready(void);
bool ff_hook_shared_ready(void);
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
