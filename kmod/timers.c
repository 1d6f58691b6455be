// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "timers.h"

#include <linux/hrtimer.h>
#include <linux/pid.h>
#include <linux/posix-timers.h>
#include <linux/sched/signal.h>

#include "compat.h"

/* timer_create() keeps the clocks of the caller's own processor time as these. */
#define FF_CLOCK_OF_PROCESS make_process_cpuclock(0, CPUCLOCK_SCHED)
#define FF_CLOCK_OF_THREAD make_thread_cpuclock(0, CPUCLOCK_SCHED)

/* The processor time of the process by one of CPUCLOCK_*; it is counted while a timer runs by it. */
static u64 ff_process_time(struct task_struct *task, u32 clock)
{
	struct task_cputime_atomic *times = &task->signal->cputimer.cputime_atomic;

	switch (clock) {
	case CPUCLOCK_PROF:
		return atomic64_read(&times->utime) + atomic64_read(&times->stime);
	case CPUCLOCK_VIRT:
		return atomic64_read(&times->utime);
	default:
		return atomic64_read(&times->sum_exec_runtime);
	}
}

/* What is past its time fires at the next tick: never 0, which is not armed. */
static u64 ff_until(u64 expires, u64 now)
{
	return expires > now ? expires - now : 1;
}

/* It goes on when its signal is taken, if it does so at all. */
static u64 ff_until_next(s64 left, u64 interval)
{
	if (left > 0)
		return left;
	return interval ? (div64_u64(-left, interval) + 1) * interval + left : 1;
}

static void ff_timers_note_real(struct task_struct *task, struct ff_image_timer *image)
{
	struct hrtimer *timer = &task->signal->real_timer;

	image->kind = FF_TIMER_REAL;
	image->clock = CLOCK_MONOTONIC;
	image->signal = SIGALRM;
	image->interval_ns = task->signal->it_real_incr;
	image->value_ns =
		ff_until_next(__hrtimer_get_remaining(timer, false), hrtimer_active(timer) ? 0 : image->interval_ns);
}

static void ff_timers_note_cpu(struct task_struct *task, u32 clock, struct ff_image_timer *image)
{
	struct cpu_itimer *timer = &task->signal->it[clock];

	image->kind = clock == CPUCLOCK_VIRT ? FF_TIMER_VIRTUAL : FF_TIMER_PROF;
	image->clock = CLOCK_PROCESS_CPUTIME_ID;
	image->signal = clock == CPUCLOCK_VIRT ? SIGVTALRM : SIGPROF;
	image->interval_ns = timer->incr;
	image->value_ns = ff_until(timer->expires, ff_process_time(task, clock));
}

/*
 * As timer_gettime() has it. it_lock comes before siglock, so we go without: the targets do not set timers now, and
 * what a timer that fires meanwhile changes is a number each.
 */
static void ff_timers_note_high_resolution(struct k_itimer *timer, s64 left, struct ff_image_timer *image)
{
	u64 interval = timer->it_interval;
	bool silent = timer->it_sigev_notify == SIGEV_NONE;

	/* What was disarmed, or has fired once and for all, keeps its time. One that tells nobody is never active. */
	if (interval || timer->it_active || (silent && left > 0))
		image->value_ns = ff_until_next(left, interval);
}

static void ff_timers_note_processor(struct task_struct *task, struct k_itimer *timer, struct ff_image_timer *image)
{
	u64 expires = timer->it.cpu.node.expires;

	if (!expires)
		return;
	if (timer->it_clock >> 3 != FF_CLOCK_OF_PROCESS >> 3 || CPUCLOCK_PERTHREAD(timer->it_clock)) {
		image->flags |= FF_TIMER_NO_VALUE;
		return;
	}
	image->value_ns = ff_until(expires, ff_process_time(task, CPUCLOCK_WHICH(timer->it_clock)));
}

static void ff_timers_note_posix(struct task_struct *task, struct k_itimer *timer, struct ff_image_timer *image)
{
	image->kind = FF_TIMER_POSIX;
	image->id = timer->it_id;
	image->clock = timer->it_clock;
	image->notify = timer->it_sigev_notify;
	if (timer->sigq) {
		image->signal = timer->sigq->info.si_signo;
		image->sigev_value = (unsigned long)timer->sigq->info.si_value.sival_ptr;
	}
	if (image->notify & SIGEV_THREAD_ID)
		image->thread = pid_vnr(timer->it_pid);
	image->overruns = max_t(s64, timer->it_overrun_last, 0);
	image->interval_ns = timer->it_interval;
	switch (timer->it_clock) {
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
	case CLOCK_TAI:
		ff_timers_note_high_resolution(timer, __hrtimer_get_remaining(&timer->it.real.timer, false), image);
		return;
	case CLOCK_REALTIME_ALARM:
	case CLOCK_BOOTTIME_ALARM:
		ff_timers_note_high_resolution(timer, alarm_expires_remaining(&timer->it.alarm.alarmtimer), image);
		return;
	}
	ff_timers_note_processor(task, timer, image);
	if (timer->it_clock == FF_CLOCK_OF_PROCESS)
		image->clock = CLOCK_PROCESS_CPUTIME_ID;
	else if (timer->it_clock == FF_CLOCK_OF_THREAD)
		image->clock = CLOCK_THREAD_CPUTIME_ID;
}

void ff_timers_note(struct task_struct *task, struct ff_arena *arena, struct ff_image_timer **timers, u32 *count)
{
	struct signal_struct *signal = task->signal;
	/* Between its signal and the thread that takes it, one that repeats is not active. */
	bool real = hrtimer_active(&signal->real_timer) || signal->it_real_incr;
	struct ff_image_timer *image;
	struct k_itimer *timer;
	u32 clock, room = real;

	for (clock = CPUCLOCK_PROF; clock <= CPUCLOCK_VIRT; clock++)
		room += signal->it[clock].expires != 0;
	ff_for_each_posix_timer(timer, signal)
		room++;
	*count = 0;
	*timers = NULL;
	if (!room)
		return;
	image = ff_arena_take_zeroed(arena, room * sizeof(*image));
	if (!image)
		return;
	*timers = image;
	*count = room;
	if (real)
		ff_timers_note_real(task, image++);
	for (clock = CPUCLOCK_PROF; clock <= CPUCLOCK_VIRT; clock++) {
		if (signal->it[clock].expires)
			ff_timers_note_cpu(task, clock, image++);
	}
	ff_for_each_posix_timer(timer, signal)
		ff_timers_note_posix(task, timer, image++);
}
