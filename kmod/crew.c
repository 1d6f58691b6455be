// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "crew.h"

#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/workqueue.h>

#include "leaf.h"
#include "lazy.h"
#include "notify.h"
#include "protect.h"
#include "shared.h"
#include "walk.h"

#define FF_CREW_MAX 15u
/* What one job covers: some 0.1 ms of work, so that nobody waits long for the last one. */
#define FF_JOB_BYTES (16 * PMD_SIZE)
/* Below this a helper comes too late. */
#define FF_CREW_PAGES (64ul << (20 - PAGE_SHIFT))
#define FF_CREW_LEFT 64

static unsigned int arm_helpers = FF_CREW_MAX;
module_param(arm_helpers, uint, 0600);
MODULE_PARM_DESC(
	arm_helpers,
	"how many processors may help to arm memory, at most (default: 15; there is one less than are online)");

/* Takes are serialized, so there is one. */
static struct {
	struct workqueue_struct *queue;
	struct work_struct works[FF_CREW_MAX];
	spinlock_t lock; /* guards what follows */
	struct ff_snapshot *snap;
	struct ff_job next;		  /* what is left begins here; space NULL: nothing */
	u32 busy;			  /* helpers that have a job */
	struct ff_job left[FF_CREW_LEFT]; /* what helpers left to the caller */
	u32 left_count;
} ff_crew;

/* ---- cutting ----------------------------------------------------------- */

static bool ff_vma_is_job(const struct ff_space *space, const struct ff_vma *vma)
{
	return space->arm_mode == FF_ARM_LAZY && (vma->private || ff_vma_is_shared_lazily(vma));
}

/* Puts `next` at the first VMA from @vma on that is to be armed. Under the lock. */
static void ff_crew_seek(struct ff_space *space, struct ff_vma *vma)
{
	struct ff_snapshot *snap = ff_crew.snap;

	for (; space < snap->spaces + snap->space_count; space++, vma = space->vmas) {
		for (; vma < space->vmas + space->vma_count; vma++) {
			if (!ff_vma_is_job(space, vma))
				continue;
			ff_crew.next = (struct ff_job){ space, vma, vma->image.start, vma->image.end };
			return;
		}
		if (space + 1 == snap->spaces + snap->space_count)
			break;
	}
	ff_crew.next.space = NULL;
}

/* Under the lock. */
static bool ff_crew_cut(struct ff_job *job)
{
	struct ff_job *next = &ff_crew.next;

	if (!next->space)
		return false;
	*job = *next;
	job->end = min(next->end, round_down(next->start, FF_JOB_BYTES) + FF_JOB_BYTES);
	next->start = job->end;
	if (next->start == next->end)
		ff_crew_seek(next->space, next->vma + 1);
	return true;
}

/* ---- helpers ----------------------------------------------------------- */

static int ff_crew_table(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct ff_leaf *leaf = xa_load(&lazy->tables, addr >> PMD_SHIFT);
	enum ff_step step = FF_STEP_SPLIT;

	if (!leaf || leaf->late)
		return -EAGAIN;
	if (walk->shared) {
		ff_protect_table(lazy->mm, pmdp, addr, end);
		return 0;
	}
	spin_lock(&leaf->lock);
	leaf->stopped = true;
	/* Asked under the lock, as in ff_lazy_arm_table(). */
	if (!ff_notify_is_pending(lazy, addr, end))
		step = ff_leaf_arm(lazy, leaf, pmdp, &addr, end);
	spin_unlock(&leaf->lock);
	return step == FF_STEP_NEXT ? 0 : -EAGAIN;
}

static int ff_crew_huge(struct ff_walk *walk, pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	struct ff_lazy *lazy = walk->space->lazy;
	struct ff_leaf *leaf = xa_load(&lazy->tables, addr >> PMD_SHIFT);
	enum ff_step step = FF_STEP_SPLIT;

	if (!leaf || leaf->late)
		return -EAGAIN;
	if (walk->shared)
		return ff_protect_huge(lazy->mm, pmdp) ? 0 : -EAGAIN;
	spin_lock(&leaf->lock);
	leaf->stopped = true;
	if (!ff_notify_is_pending(lazy, addr, end))
		step = ff_leaf_arm_huge(lazy, leaf, pmdp);
	spin_unlock(&leaf->lock);
	return step == FF_STEP_NEXT ? 0 : -EAGAIN;
}

static const struct ff_walk_ops ff_crew_ops = {
	.table = ff_crew_table,
	.huge = ff_crew_huge,
};

static bool ff_crew_help(const struct ff_job *job)
{
	struct ff_walk walk = {
		.space = job->space,
		.ops = &ff_crew_ops,
		.shared = ff_vma_is_shared_lazily(job->vma),
	};

	return !READ_ONCE(job->space->lazy->uncertain) && !ff_walk_range(&walk, job->start, job->end);
}

/* The caller may spin until we have done; so nobody is to take the processor away. */
static bool ff_crew_help_once(void)
{
	struct ff_job job;
	bool any, done;

	preempt_disable();
	spin_lock(&ff_crew.lock);
	any = ff_crew.left_count + ff_crew.busy < FF_CREW_LEFT && ff_crew_cut(&job);
	ff_crew.busy += any;
	spin_unlock(&ff_crew.lock);
	if (any) {
		done = ff_crew_help(&job);
		spin_lock(&ff_crew.lock);
		if (!done)
			ff_crew.left[ff_crew.left_count++] = job;
		ff_crew.busy--;
		spin_unlock(&ff_crew.lock);
	}
	preempt_enable();
	return any;
}

static void ff_crew_work(struct work_struct *work)
{
	while (ff_crew_help_once())
		;
}

/* ---- the caller -------------------------------------------------------- */

int ff_crew_init(void)
{
	u32 index;

	spin_lock_init(&ff_crew.lock);
	for (index = 0; index < FF_CREW_MAX; index++)
		INIT_WORK(&ff_crew.works[index], ff_crew_work);
	ff_crew.queue = alloc_workqueue("freezeframe", WQ_UNBOUND | WQ_HIGHPRI, FF_CREW_MAX);
	return ff_crew.queue ? 0 : -ENOMEM;
}

void ff_crew_exit(void)
{
	destroy_workqueue(ff_crew.queue);
}

static u64 ff_crew_pages(const struct ff_snapshot *snap)
{
	u64 pages = 0;
	u32 index;

	for (index = 0; index < snap->space_count; index++) {
		if (snap->spaces[index].arm_mode == FF_ARM_LAZY)
			pages += snap->spaces[index].anon_pages;
	}
	return pages;
}

void ff_crew_begin(struct ff_snapshot *snap)
{
	u32 helpers = min3(READ_ONCE(arm_helpers), num_online_cpus() - 1, FF_CREW_MAX), index;

	spin_lock(&ff_crew.lock);
	ff_crew.snap = snap;
	ff_crew.left_count = 0;
	ff_crew_seek(snap->spaces, snap->spaces->vmas);
	spin_unlock(&ff_crew.lock);
	helpers = min_t(u64, helpers, ff_crew_pages(snap) / FF_CREW_PAGES);
	for (index = 0; index < helpers; index++)
		queue_work(ff_crew.queue, &ff_crew.works[index]);
}

bool ff_crew_next(struct ff_job *job)
{
	for (;;) {
		bool any, busy;

		spin_lock(&ff_crew.lock);
		any = ff_crew_cut(job);
		if (!any && ff_crew.left_count) {
			*job = ff_crew.left[--ff_crew.left_count];
			any = true;
		}
		busy = ff_crew.busy;
		spin_unlock(&ff_crew.lock);
		if (any || !busy)
			return any;
		cpu_relax();
	}
}

void ff_crew_end(void)
{
	bool busy = true;

	while (busy) {
		spin_lock(&ff_crew.lock);
		ff_crew.next.space = NULL;
		busy = ff_crew.busy;
		spin_unlock(&ff_crew.lock);
	}
}
