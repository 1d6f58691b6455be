// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "signals.h"

#include <linux/sched/signal.h>

#include "timers.h"

/* lock_task_sighand() does this, but what it calls is not exported. NULL: the thread has gone. */
static struct sighand_struct *ff_sighand_lock(struct task_struct *task, unsigned long *flags)
{
	struct sighand_struct *sighand;

	rcu_read_lock();
	while ((sighand = rcu_dereference(task->sighand))) {
		/* Its memory may be freed and become another's, but it stays a sighand while we read by RCU. */
		spin_lock_irqsave(&sighand->siglock, *flags);
		if (likely(sighand == rcu_access_pointer(task->sighand)))
			break;
		spin_unlock_irqrestore(&sighand->siglock, *flags);
	}
	rcu_read_unlock();
	return sighand;
}

/* A signal may be set without having an entry in the queue: there was no memory, or nothing to tell. Under siglock. */
static void ff_signals_note(struct sigpending *pending, struct ff_arena *arena, struct ff_signals *signals)
{
	struct sigqueue *entry;
	sigset_t queued;
	u32 count = 0;
	int signal;

	BUILD_BUG_ON(sizeof(((struct ff_image_signal *)0)->info) != sizeof(entry->info));
	memset(signals, 0, sizeof(*signals));
	signals->waiting = pending->signal.sig[0];
	if (list_empty(&pending->list) && !pending->signal.sig[0])
		return;
	sigemptyset(&queued);
	list_for_each_entry(entry, &pending->list, list) {
		sigaddset(&queued, entry->info.si_signo);
		count++;
	}
	for (signal = 1; signal <= _NSIG; signal++)
		count += sigismember(&pending->signal, signal) && !sigismember(&queued, signal);
	signals->list = ff_arena_take_zeroed(arena, count * sizeof(*signals->list));
	if (!signals->list)
		return;
	list_for_each_entry(entry, &pending->list, list) {
		struct ff_image_signal *image = &signals->list[signals->count++];

		image->signal = entry->info.si_signo;
		image->flags = FF_SIGNAL_INFO;
		memcpy(image->info, &entry->info, sizeof(image->info));
	}
	for (signal = 1; signal <= _NSIG; signal++) {
		if (sigismember(&pending->signal, signal) && !sigismember(&queued, signal))
			signals->list[signals->count++].signal = signal;
	}
}

void ff_signals_note_process(struct task_struct *task, struct ff_arena *arena, struct ff_signal_state *state)
{
	struct sighand_struct *sighand;
	unsigned long flags;

	state->known = false;
	memset(&state->pending, 0, sizeof(state->pending));
	state->timer_count = 0;
	sighand = ff_sighand_lock(task, &flags);
	if (!sighand)
		return;
	state->known = true;
	memcpy(state->actions, sighand->action, sizeof(state->actions));
	ff_signals_note(&task->signal->shared_pending, arena, &state->pending);
	ff_timers_note(task, arena, &state->timers, &state->timer_count);
	spin_unlock_irqrestore(&sighand->siglock, flags);
}

void ff_signals_note_thread(struct task_struct *task, struct ff_arena *arena, struct ff_signals *pending)
{
	struct sighand_struct *sighand;
	unsigned long flags;

	memset(pending, 0, sizeof(*pending));
	if (list_empty_careful(&task->pending.list) && !task->pending.signal.sig[0])
		return;
	sighand = ff_sighand_lock(task, &flags);
	if (!sighand)
		return;
	ff_signals_note(&task->pending, arena, pending);
	spin_unlock_irqrestore(&sighand->siglock, flags);
}

int ff_signals_add(struct ff_bytes *bytes, const struct ff_signals *pending, struct ff_blob *blob)
{
	return ff_bytes_add(bytes, pending->list, pending->count * sizeof(*pending->list), blob);
}

static bool ff_action_is_default(const struct k_sigaction *action)
{
	return action->sa.sa_handler == SIG_DFL && !action->sa.sa_flags && !action->sa.sa_mask.sig[0];
}

int ff_signals_add_actions(struct ff_bytes *bytes, const struct ff_signal_state *state, struct ff_blob *blob)
{
	struct ff_image_action *image;
	u32 signal, count = 0;

	if (!state->known)
		return 0;
	for (signal = 1; signal <= _NSIG; signal++)
		count += !ff_action_is_default(&state->actions[signal - 1]);
	image = ff_bytes_room(bytes, count * sizeof(*image), blob);
	if (!image)
		return -ENOMEM;
	for (signal = 1; signal <= _NSIG; signal++) {
		const struct sigaction *action = &state->actions[signal - 1].sa;

		if (ff_action_is_default(&state->actions[signal - 1]))
			continue;
		*image++ = (struct ff_image_action){
			.signal = signal,
			.handler = (unsigned long)action->sa_handler,
			.flags = action->sa_flags,
			.restorer = (unsigned long)action->sa_restorer,
			.mask = action->sa_mask.sig[0],
		};
	}
	return 0;
}

int ff_signals_add_timers(struct ff_bytes *bytes, const struct ff_signal_state *state, struct ff_blob *blob)
{
	return ff_bytes_add(bytes, state->timers, state->timer_count * sizeof(*state->timers), blob);
}
