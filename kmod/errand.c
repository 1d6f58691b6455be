// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "errand.h"

#include <linux/jiffies.h>
#include <linux/sched/mm.h>

#include "disk_thread.h"

int ff_errands_start(struct ff_errands *errands, u32 most)
{
	struct kthread_worker *worker;

	/* One alone holds up nobody. */
	if (most == 1)
		return 0;
	while (errands->worker_count < min_t(u32, most, FF_ERRAND_WORKERS)) {
		worker = kthread_create_worker(0, "ff-disk/%u", errands->worker_count);
		if (IS_ERR(worker))
			return PTR_ERR(worker);
		errands->workers[errands->worker_count++] = worker;
	}
	return 0;
}

void ff_errands_stop(struct ff_errands *errands)
{
	while (errands->worker_count)
		kthread_destroy_worker(errands->workers[--errands->worker_count]);
}

void ff_errands_hurry(struct ff_errands *errands)
{
	WRITE_ONCE(errands->hasty, true);
	wake_up_all(&errands->queue);
}

static void ff_errand_work(struct kthread_work *work)
{
	struct ff_errand *errand = container_of(work, struct ff_errand, work);
	struct ff_errands *errands = &errand->disk->errands;
	unsigned int noio;

	/* Before it was begun. */
	if (ff_errand_is_left(errand))
		return;
	noio = memalloc_noio_save();
	kthread_use_mm(errands->mm);
	errand->err = errand->run(errand);
	if (atomic_cmpxchg(&errand->state, FF_ERRAND_OPEN, FF_ERRAND_DONE) == FF_ERRAND_LEFT && errand->undo)
		errand->undo(errand);
	kthread_unuse_mm(errands->mm);
	memalloc_noio_restore(noio);
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

static void ff_errand_begin(struct ff_errands *errands, struct ff_errand *errand, u32 turn)
{
	errand->failure = FF_NO_FAILURE;
	if (!errands->worker_count) {
		errand->err = errand->run(errand);
		return;
	}
	atomic_set(&errand->state, FF_ERRAND_OPEN);
	kthread_init_work(&errand->work, ff_errand_work);
	kthread_queue_work(errands->workers[turn % errands->worker_count], &errand->work);
}

int ff_errands_run(struct ff_errands *errands, struct ff_errand *some, u32 count, int (*run)(struct ff_errand *errand),
		   void (*undo)(struct ff_errand *errand), struct ff_failure *failure)
{
	unsigned long until = jiffies + msecs_to_jiffies(errands->patience_ms);
	struct ff_errand *errand;
	int err = 0;

	for (errand = some; errand < some + count; errand++) {
		if (ff_errand_is_left(errand))
			continue;
		errand->run = run;
		errand->undo = undo;
		ff_errand_begin(errands, errand, errand - some);
	}
	for (errand = some; errand < some + count; errand++) {
		if (ff_errand_is_left(errand))
			continue;
		/* Whoever waits for us in vain says for which one. */
		if (!err)
			WRITE_ONCE(failure->fs, errand->fs);
		if (!ff_errand_await(errands, errand, until))
			err = err ?: -ETIMEDOUT;
		else if (errand->err && !err) {
			err = errand->err;
			*failure = errand->failure;
		}
	}
	return err;
}
