// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "errand.h"

#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>

#include "snapshot.h"

void ff_errands_init(struct ff_errands *errands, struct mm_struct *mm, unsigned int patience_ms)
{
	errands->mm = mm;
	errands->patience_ms = patience_ms;
	spin_lock_init(&errands->lock);
	INIT_LIST_HEAD(&errands->open);
	init_waitqueue_head(&errands->queue);
}

static struct ff_errand *ff_errands_next(struct ff_errands *errands)
{
	struct ff_errand *errand;

	spin_lock(&errands->lock);
	errand = list_first_entry_or_null(&errands->open, struct ff_errand, link);
	if (errand)
		list_del(&errand->link);
	spin_unlock(&errands->lock);
	return errand;
}

static void ff_errand_serve(struct ff_errand *errand)
{
	const struct ff_duty *duty = errand->duty;

	if (ff_errand_is_left(errand) && !duty->must)
		return;
	errand->err = duty->run(errand);
	if (atomic_cmpxchg(&errand->state, FF_ERRAND_OPEN, FF_ERRAND_DONE) == FF_ERRAND_LEFT && duty->late)
		duty->late(errand);
}

static int ff_errands_thread(void *data)
{
	struct ff_errands *errands = data;
	unsigned int noio = memalloc_noio_save();
	struct ff_errand *errand;

	kthread_use_mm(errands->mm);
	for (;;) {
		wait_event_idle(errands->queue, (errand = ff_errands_next(errands)) || kthread_should_stop());
		if (!errand)
			break;
		ff_errand_serve(errand);
		wake_up_all(&errands->queue);
	}
	kthread_unuse_mm(errands->mm);
	memalloc_noio_restore(noio);
	return 0;
}

int ff_errands_start(struct ff_errands *errands, u32 most)
{
	struct task_struct *thread;

	/* One alone holds up nobody. */
	if (most == 1)
		return 0;
	/* One more, for what is to be done when all others hang. */
	while (errands->thread_count < min_t(u32, most + 1, FF_ERRAND_THREADS)) {
		thread = kthread_run(ff_errands_thread, errands, "ff-disk/%u", errands->thread_count);
		if (IS_ERR(thread))
			return PTR_ERR(thread);
		errands->threads[errands->thread_count++] = thread;
	}
	return 0;
}

void ff_errands_stop(struct ff_errands *errands)
{
	while (errands->thread_count)
		kthread_stop(errands->threads[--errands->thread_count]);
}

void ff_errands_hurry(struct ff_errands *errands)
{
	WRITE_ONCE(errands->hasty, true);
	wake_up_all(&errands->queue);
}

static bool ff_errand_is_done(struct ff_errand *errand)
{
	return atomic_read(&errand->state) == FF_ERRAND_DONE;
}

/* Whether it came to an end. */
static bool ff_errand_await(struct ff_errands *errands, struct ff_errand *errand, unsigned long until)
{
	long left;

	wait_event_idle(errands->queue, ff_errand_is_done(errand) || READ_ONCE(errands->hasty));
	left = (long)(until - jiffies);
	if (left > 0)
		wait_event_idle_timeout(errands->queue, ff_errand_is_done(errand), left);
	if (atomic_cmpxchg(&errand->state, FF_ERRAND_OPEN, FF_ERRAND_LEFT) == FF_ERRAND_DONE)
		return true;
	errands->left = true;
	return false;
}

static void ff_errand_begin(struct ff_errands *errands, struct ff_errand *errand, const struct ff_duty *duty)
{
	errand->duty = duty;
	errand->failure = FF_NO_FAILURE;
	if (!errands->thread_count) {
		errand->err = duty->run(errand);
		return;
	}
	atomic_set(&errand->state, FF_ERRAND_OPEN);
	spin_lock(&errands->lock);
	list_add_tail(&errand->link, &errands->open);
	spin_unlock(&errands->lock);
}

int ff_errands_run(struct ff_errands *errands, struct ff_errand *some, u32 count, const struct ff_duty *duty,
		   struct ff_failure *failure)
{
	unsigned long until = jiffies + msecs_to_jiffies(errands->patience_ms);
	struct ff_errand *errand;
	int err = 0;

	for (errand = some; errand < some + count; errand++) {
		if (ff_errand_is_left(errand))
			continue;
		/* Where there are no threads it is done in the next line. */
		WRITE_ONCE(failure->fs, errand->fs);
		ff_errand_begin(errands, errand, duty);
	}
	wake_up_all(&errands->queue);
	for (errand = some; errand < some + count; errand++) {
		if (ff_errand_is_left(errand))
			continue;
		/* Whoever waits for us in vain says for which one. */
		if (!err)
			WRITE_ONCE(failure->fs, errand->fs);
		if (!ff_errand_await(errands, errand, until)) {
			err = err ?: -ETIMEDOUT;
		} else if (errand->err && !err) {
			err = errand->err;
			*failure = errand->failure;
		}
	}
	return err;
}
