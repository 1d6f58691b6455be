/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_REGS_H
#define FF_REGS_H

#include "snapshot.h"

void ff_regs_module_init(void);
/* Makes room for the registers of @thread. */
int ff_regs_reserve(struct ff_thread *thread);
/*
 * Parks the caller, which is @thread: it is still from here on. True: it has copied its registers, and may be still on
 * its processor. False: they are copied when it has left that.
 */
bool ff_regs_park(struct ff_thread *thread);
/* Does to the caller's what ff_regs_copy() will do to others', in a @spare that nobody uses yet. */
void ff_regs_rehearse(struct ff_thread *spare);
/* Copies the registers and the signal masks of every thread that is still, as far as that cannot wait. In the stop. */
int ff_regs_copy(struct ff_snapshot *snap);
/*
 * Copies the other registers (FPU, vectors), most of the bytes and of the time: by the thread itself before it goes to
 * user mode, or by FF_IOC_TAKE after the window, whoever comes first.
 */
void ff_regs_finish(struct ff_thread *thread);
void ff_regs_finish_all(struct ff_snapshot *snap);

#endif
