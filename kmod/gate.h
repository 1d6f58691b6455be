/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A page fault that makes a page of a file writable waits for a frozen filesystem (sb_start_pagefault() in
 * ->page_mkwrite()), and holds mmap_lock or the lock of its VMA while it waits: the stop, which needs those for
 * writing, would wait for the filesystem, and the filesystem for the stop. So before a filesystem freezes a gate is
 * raised, in front of handle_mm_fault(): such a fault lets go of its lock, waits there, and starts over.
 *
 * A fault from user mode holds nothing else, and may wait from the beginning. One within a system call may hold locks
 * that writers wait for, who have to be through before the filesystem's page faults freeze (SB_FREEZE_PAGEFAULT): it
 * waits here from when on it would wait there, with the same locks, less the one that matters to us.
 */
#ifndef FF_GATE_H
#define FF_GATE_H

#include <linux/ftrace.h>
#include <linux/list.h>
#include <linux/mm.h>

#include "snapshot.h"

struct ff_gate {
	struct list_head link; /* in the list of gates that are raised; under RCU */
	struct super_block **filesystems;
	u32 count;
	bool raised;
};

/* Can the kernel's page faults be led here at all? */
bool ff_gate_ready(void);
void ff_gate_set_ready(bool ready);
void ff_gate_raise(struct ff_gate *gate);
/* Safe more than once. The memory of @gate may go after a grace period of RCU. */
void ff_gate_lower(struct ff_gate *gate);
/*
 * Waits until no page fault of the targets is under way that came before @gate was raised and would write to its
 * filesystems; so none of them sleeps with its lock once they are frozen.
 */
int ff_gate_drain(struct ff_snapshot *snap, const struct ff_gate *gate, unsigned long deadline);
/* In the hook of handle_mm_fault(): leads a fault that has to wait to where it does. */
bool ff_gate_stops(struct vm_area_struct *vma, unsigned int flags, struct ftrace_regs *regs);
/* When this returns, nobody runs in here any more. */
void ff_gate_module_exit(void);

#endif
