// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "notify.h"

#include <linux/mmu_notifier.h>

#include "compat.h"
#include "gib.h"
#include "test.h"

static int ff_notify_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct ff_lazy *lazy = container_of(notifier, struct ff_lazy, notifier);

	spin_lock(&lazy->notices_lock);
	/* One range that covers them all is enough: they are few and short. */
	if (!lazy->notices++) {
		lazy->notices_start = range->start;
		lazy->notices_end = range->end;
	} else {
		lazy->notices_start = min(lazy->notices_start, range->start);
		lazy->notices_end = max(lazy->notices_end, range->end);
	}
	spin_unlock(&lazy->notices_lock);
	/*
	 * mremap and UFFDIO_MOVE announce where pages come from, not where they go to: a suspect that moves before the
	 * stop is lost from sight.
	 */
	if (!READ_ONCE(lazy->stopped) && (range->event == MMU_NOTIFY_UNMAP || range->event == MMU_NOTIFY_CLEAR) &&
	    ff_lazy_has_suspects(lazy, range->start, range->end))
		WRITE_ONCE(lazy->uncertain, true);
	if (!ff_test_skips_hook(FF_TEST_HOOK_NOTIFIER))
		ff_lazy_range(lazy, range->start, range->end, mmu_notifier_range_blockable(range));
	if (!READ_ONCE(lazy->stopped))
		ff_test_dwell(1);
	return 0;
}

static void ff_notify_over(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct ff_lazy *lazy = container_of(notifier, struct ff_lazy, notifier);

	/* Now the change is made, and before anybody else can believe it to be over. */
	if (!READ_ONCE(lazy->stopped))
		ff_gib_check(lazy, range->start, range->end);
	spin_lock(&lazy->notices_lock);
	/* Nobody began before we listened: mmu_notifier_register() holds every lock that such a change is made under.
	 */
	if (!WARN_ON_ONCE(!lazy->notices))
		lazy->notices--;
	spin_unlock(&lazy->notices_lock);
}

/* The address space ends. It cannot while a take holds it, but for ff_notify_end(), which comes here as well. */
static void ff_notify_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct ff_lazy *lazy = container_of(notifier, struct ff_lazy, notifier);

	ff_lazy_range(lazy, 0, TASK_SIZE_MAX, true);
}

static const struct mmu_notifier_ops ff_notify_ops = {
	.invalidate_range_start = ff_notify_start,
	.invalidate_range_end = ff_notify_over,
	.release = ff_notify_release,
};

bool ff_notify_is_foreign(struct mm_struct *mm, struct ff_lazy *ours)
{
	return ff_mm_has_other_notifier(mm, ours && ours->watched ? &ours->notifier : NULL);
}

int ff_notify_begin(struct ff_lazy *lazy)
{
	int err;

	spin_lock_init(&lazy->notices_lock);
	lazy->notifier.ops = &ff_notify_ops;
	err = mmu_notifier_register(&lazy->notifier, lazy->mm);
	lazy->watched = !err;
	return err;
}

void ff_notify_end(struct ff_lazy *lazy)
{
	if (lazy->watched)
		mmu_notifier_unregister(&lazy->notifier, lazy->mm);
	lazy->watched = false;
}

bool ff_notify_is_pending(struct ff_lazy *lazy, unsigned long start, unsigned long end)
{
	bool pending;

	spin_lock(&lazy->notices_lock);
	pending = lazy->notices && start < lazy->notices_end && lazy->notices_start < end;
	spin_unlock(&lazy->notices_lock);
	return pending;
}
