// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "hook.h"

#include <linux/ftrace.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>

#include "compat.h"
#include "lazy.h"
#include "test.h"

/* The address spaces that are watched, by their mm. Readers are under RCU. */
static DEFINE_HASHTABLE(ff_watched, 6);
static DEFINE_SPINLOCK(ff_watched_lock); /* guards ff_watched against other writers */
static unsigned int ff_watched_count;	 /* 0: the hooks have nothing to do */

/*
 * ff_hook_drain() waits for RCU, and the callbacks of ftrace run with preemption off, or under RCU Tasks at least;
 * so they say themselves when they read.
 */
static struct ff_lazy *ff_watched_find(struct mm_struct *mm)
{
	struct ff_lazy *lazy;

	hash_for_each_possible_rcu(ff_watched, lazy, link, (unsigned long)mm)
	{
		if (lazy->mm == mm)
			return lazy;
	}
	return NULL;
}

/* handle_mm_fault(vma, address, ...) */
static void notrace ff_on_fault(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				struct ftrace_regs *regs)
{
	struct vm_area_struct *vma;
	struct ff_lazy *lazy;

	if (likely(!READ_ONCE(ff_watched_count)) || ff_test_skips_hook(FF_TEST_HOOK_FAULT))
		return;
	vma = (struct vm_area_struct *)ff_hook_argument(regs, 0);
	rcu_read_lock();
	lazy = ff_watched_find(vma->vm_mm);
	if (lazy)
		ff_lazy_fault(lazy, ff_hook_argument(regs, 1));
	rcu_read_unlock();
}

/* @forced: FOLL_FORCE writes to an exclusive page of a VMA that is not writable, without a page fault. */
static void ff_on_gup(struct mm_struct *mm, unsigned long start, unsigned long pages, unsigned int flags, bool forced)
{
	struct ff_lazy *lazy;

	if (!(flags & FOLL_WRITE) || ff_test_skips_hook(FF_TEST_HOOK_GUP))
		return;
	rcu_read_lock();
	lazy = ff_watched_find(mm);
	if (lazy)
		ff_lazy_gup(lazy, start & PAGE_MASK, (start & PAGE_MASK) + (pages << PAGE_SHIFT), forced);
	rcu_read_unlock();
}

/* gup_fast_fallback(start, nr_pages, gup_flags, ...), of current */
static void notrace ff_on_gup_fast(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				   struct ftrace_regs *regs)
{
	if (unlikely(READ_ONCE(ff_watched_count)))
		ff_on_gup(current->mm, ff_hook_argument(regs, 0), ff_hook_argument(regs, 1), ff_hook_argument(regs, 2),
			  false);
}

/* __get_user_pages(mm, start, nr_pages, gup_flags, ...) */
static void notrace ff_on_gup_slow(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				   struct ftrace_regs *regs)
{
	if (unlikely(READ_ONCE(ff_watched_count)))
		ff_on_gup((struct mm_struct *)ff_hook_argument(regs, 0), ff_hook_argument(regs, 1),
			  ff_hook_argument(regs, 2), ff_hook_argument(regs, 3), ff_hook_argument(regs, 3) & FOLL_FORCE);
}

struct ff_hook {
	struct ftrace_ops ops;
	const char *symbol;
	bool registered;
};

/*
 * Registered once: doing that per snapshot would cost 10 to 50 ms each. PERMANENT: sysctl kernel.ftrace_enabled=0
 * cannot take them away from under an armed process.
 */
static struct ff_hook ff_hooks[] = {
	{ .ops = { .func = ff_on_fault, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "handle_mm_fault" },
	{ .ops = { .func = ff_on_gup_fast, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = FF_GUP_FAST },
	{ .ops = { .func = ff_on_gup_slow, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "__get_user_pages" },
};

static int ff_hook_register(struct ff_hook *hook)
{
	/* It does not write to the name, in spite of its type. */
	int err = ftrace_set_filter(&hook->ops, (unsigned char *)hook->symbol, strlen(hook->symbol), 1);

	if (!err)
		err = register_ftrace_function(&hook->ops);
	hook->registered = !err;
	return err;
}

void ff_hook_module_init(void)
{
	u32 index;

	for (index = 0; index < ARRAY_SIZE(ff_hooks); index++) {
		int err = ff_hook_register(&ff_hooks[index]);

		if (err) {
			pr_warn("freezeframe: cannot hook %s (error %d): memory is armed eagerly, and the window grows "
				"with it\n",
				ff_hooks[index].symbol, err);
			ff_hook_module_exit();
			return;
		}
	}
}

void ff_hook_module_exit(void)
{
	u32 index;

	for (index = 0; index < ARRAY_SIZE(ff_hooks); index++) {
		if (ff_hooks[index].registered)
			unregister_ftrace_function(&ff_hooks[index].ops);
		ff_hooks[index].registered = false;
	}
}

bool ff_hook_ready(void)
{
	return ff_hooks[ARRAY_SIZE(ff_hooks) - 1].registered;
}

void ff_hook_add(struct ff_lazy *lazy)
{
	spin_lock(&ff_watched_lock);
	hash_add_rcu(ff_watched, &lazy->link, (unsigned long)lazy->mm);
	WRITE_ONCE(ff_watched_count, ff_watched_count + 1);
	spin_unlock(&ff_watched_lock);
}

void ff_hook_remove(struct ff_lazy *lazy)
{
	spin_lock(&ff_watched_lock);
	if (!hlist_unhashed(&lazy->link)) {
		hlist_del_init_rcu(&lazy->link);
		WRITE_ONCE(ff_watched_count, ff_watched_count - 1);
	}
	spin_unlock(&ff_watched_lock);
}

void ff_hook_drain(void)
{
	synchronize_rcu();
}
