/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Signals and timers of the targets: what they do, which wait to be taken, and what will send some. */
#ifndef FF_SIGNALS_H
#define FF_SIGNALS_H

#include <linux/sched.h>
#include <linux/signal_types.h>

#include "arena.h"
#include "bytes.h"
#include "freezeframe.h"

/* Signals that wait, in the arena. */
struct ff_signals {
	struct ff_image_signal *list;
	u32 count;
	u64 waiting; /* bit N-1: signal N */
};

/* What a process has. */
struct ff_signal_state {
	bool known; /* it has not gone yet */
	struct ff_signals pending;
	struct ff_image_timer *timers;
	u32 timer_count;
	struct k_sigaction actions[_NSIG];
};

/* In the stop: for the process of @task, and for @task alone. Neither sleeps. */
void ff_signals_note_process(struct task_struct *task, struct ff_arena *arena, struct ff_signal_state *state);
void ff_signals_note_thread(struct task_struct *task, struct ff_arena *arena, struct ff_signals *pending);
/* After it. */
int ff_signals_add(struct ff_bytes *bytes, const struct ff_signals *pending, struct ff_blob *blob);
int ff_signals_add_actions(struct ff_bytes *bytes, const struct ff_signal_state *state, struct ff_blob *blob);
int ff_signals_add_timers(struct ff_bytes *bytes, const struct ff_signal_state *state, struct ff_blob *blob);

#endif
