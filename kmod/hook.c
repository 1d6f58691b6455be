// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "hook.h"

#include <linux/ftrace.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>

#include "compat.h"
#include "gate.h"
#include "lazy.h"
#include "shared.h"
#include "test.h"
#include "trackhook.h"

/* The address spaces and shared files that are watched, by mm and by mapping. Readers are under RCU. */
static DEFINE_HASHTABLE(ff_watched, 6);
static DEFINE_HASHTABLE(ff_watched_files, 6);
static DEFINE_SPINLOCK(ff_watched_lock); /* guards both against other writers */
static unsigned int ff_watched_count;	 /* 0: the hooks have nothing to do */
static unsigned int ff_watched_file_count;

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

static struct ff_shared *ff_watched_find_file(struct address_space *mapping)
{
	struct ff_shared *shared;

	hash_for_each_possible_rcu(ff_watched_files, shared, hash, (unsigned long)mapping)
	{
		if (shared->mapping == mapping)
			return shared;
	}
	return NULL;
}

/* Of a private mapping, a write leaves the file alone. */
static struct ff_shared *ff_watched_find_vma(struct vm_area_struct *vma)
{
	if (likely(!READ_ONCE(ff_watched_file_count)) || !(vma->vm_flags & VM_SHARED) || !vma->vm_file)
		return NULL;
	return ff_watched_find_file(vma->vm_file->f_mapping);
}

/* handle_mm_fault(vma, address, ...) */
static void notrace ff_on_fault(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				struct ftrace_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ff_hook_argument(regs, 0);
	unsigned long addr = ff_hook_argument(regs, 1);
	struct ff_shared *shared;
	struct ff_lazy *lazy;

	if (ff_gate_stops(vma, ff_hook_argument(regs, 2), regs))
		return;
	if (likely(!READ_ONCE(ff_watched_count)) || ff_test_skips_hook(FF_TEST_HOOK_FAULT))
		return;
	rcu_read_lock();
	lazy = ff_watched_find(vma->vm_mm);
	if (lazy)
		ff_lazy_fault(lazy, addr);
	shared = ff_watched_find_vma(vma);
	if (shared)
		ff_shared_fault(shared, linear_page_index(vma, addr), lazy);
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

/* Parts of a shared file become writable, in any process. */
static void ff_on_mapping(struct vm_area_struct *vma, pgoff_t first, pgoff_t last, enum ff_path path)
{
	struct ff_shared *shared;

	if (ff_test_skips_hook(FF_TEST_HOOK_MAPPING))
		return;
	rcu_read_lock();
	shared = ff_watched_find_vma(vma);
	if (shared)
		ff_shared_map(shared, first, last, path);
	rcu_read_unlock();
}

/* filemap_map_pages(vmf, start_pgoff, end_pgoff) */
static void notrace ff_on_map_pages(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				    struct ftrace_regs *regs)
{
	if (unlikely(READ_ONCE(ff_watched_file_count)))
		ff_on_mapping(((struct vm_fault *)ff_hook_argument(regs, 0))->vma, ff_hook_argument(regs, 1),
			      ff_hook_argument(regs, 2), FF_PATH_FAULT);
}

/* change_protection(tlb, vma, start, end, ..., cp_flags). What NUMA balancing asks for makes nothing writable. */
static void notrace ff_on_change_protection(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
					    struct ftrace_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ff_hook_argument(regs, 1);

	if (unlikely(READ_ONCE(ff_watched_file_count)) &&
	    !(ff_hook_argument(regs, FF_CHANGE_PROTECTION_FLAGS) & MM_CP_PROT_NUMA))
		ff_on_mapping(vma, linear_page_index(vma, ff_hook_argument(regs, 2)),
			      linear_page_index(vma, ff_hook_argument(regs, 3) - 1), FF_PATH_NOTIFIER);
}

/* mfill_atomic_install_pte(..., vma, address, ...) */
static void notrace ff_on_install(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				  struct ftrace_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ff_hook_argument(regs, FF_INSTALL_VMA);
	pgoff_t index;

	if (likely(!READ_ONCE(ff_watched_file_count)))
		return;
	index = linear_page_index(vma, ff_hook_argument(regs, FF_INSTALL_VMA + 1));
	ff_on_mapping(vma, index, index, FF_PATH_NOTIFIER);
}

/* try_to_migrate(folio, flags). The folio is locked, so it is its file's until it is migrated. */
static void notrace ff_on_migrate(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				  struct ftrace_regs *regs)
{
	struct folio *folio = (struct folio *)ff_hook_argument(regs, 0);
	struct ff_shared *shared;

	if (likely(!READ_ONCE(ff_watched_file_count)) || folio_test_anon(folio) || folio_test_hugetlb(folio) ||
	    ff_test_skips_hook(FF_TEST_HOOK_MAPPING))
		return;
	rcu_read_lock();
	shared = folio->mapping ? ff_watched_find_file(folio->mapping) : NULL;
	if (shared)
		ff_shared_change(shared, folio->index, folio->index + folio_nr_pages(folio) - 1, FF_PATH_NOTIFIER);
	rcu_read_unlock();
}

/* shmem_write_begin(file, mapping, pos, len, ...) */
static void notrace ff_on_write(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				struct ftrace_regs *regs)
{
	loff_t pos = ff_hook_argument(regs, 2);
	struct ff_shared *shared;

	if (likely(!READ_ONCE(ff_watched_file_count)) || ff_test_skips_hook(FF_TEST_HOOK_FILE))
		return;
	rcu_read_lock();
	shared = ff_watched_find_file((struct address_space *)ff_hook_argument(regs, 1));
	if (shared)
		ff_shared_change(shared, pos >> PAGE_SHIFT, (pos + (u32)ff_hook_argument(regs, 3) - 1) >> PAGE_SHIFT,
				 FF_PATH_FILE);
	rcu_read_unlock();
}

/* shmem_undo_range(inode, start, end, unfalloc) */
static void notrace ff_on_truncate(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				   struct ftrace_regs *regs)
{
	struct ff_shared *shared;

	if (likely(!READ_ONCE(ff_watched_file_count)) || ff_test_skips_hook(FF_TEST_HOOK_FILE))
		return;
	rcu_read_lock();
	shared = ff_watched_find_file(((struct inode *)ff_hook_argument(regs, 0))->i_mapping);
	if (shared)
		ff_shared_truncate(shared, ff_hook_argument(regs, 1), ff_hook_argument(regs, 2));
	rcu_read_unlock();
}

/*
 * Registered once: doing that per snapshot would cost 10 to 50 ms each. PERMANENT: sysctl kernel.ftrace_enabled=0
 * cannot take them away from under an armed process.
 */
static struct ff_hook ff_hooks[] = {
	{ .ops = { .func = ff_on_fault, .flags = FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_IPMODIFY },
	  .symbol = "handle_mm_fault" },
	{ .ops = { .func = ff_on_gup_fast, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = FF_GUP_FAST },
	{ .ops = { .func = ff_on_gup_slow, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "__get_user_pages" },
};

/* For shared memory, besides that of page faults. */
static struct ff_hook ff_shared_hooks[] = {
	{ .ops = { .func = ff_on_map_pages, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "filemap_map_pages" },
	{ .ops = { .func = ff_on_change_protection, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "change_protection" },
	{ .ops = { .func = ff_on_install, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "mfill_atomic_install_pte" },
	{ .ops = { .func = ff_on_migrate, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "try_to_migrate" },
	{ .ops = { .func = ff_on_write, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "shmem_write_begin" },
	{ .ops = { .func = ff_on_truncate, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "shmem_undo_range" },
};

static int ff_hook_register(struct ff_hook *hook)
{
	/* It does not write to the name, in spite of its type. */
	int err = ftrace_set_filter(&hook->ops, (unsigned char *)hook->symbol, strlen(hook->symbol), 1);

	hook->filtered = !err;
	if (!err)
		err = register_ftrace_function(&hook->ops);
	if (err == -EBUSY && (hook->ops.flags & FTRACE_OPS_FL_IPMODIFY)) {
		/* Somebody else has the right to lead it elsewhere (a live patch): it is watched, but without a gate.
		 */
		hook->ops.flags &= ~FTRACE_OPS_FL_IPMODIFY;
		err = register_ftrace_function(&hook->ops);
	}
	hook->registered = !err;
	return err;
}

void ff_hooks_unregister(struct ff_hook *hooks, u32 count)
{
	u32 index;

	for (index = 0; index < count; index++) {
		if (hooks[index].registered)
			unregister_ftrace_function(&hooks[index].ops);
		if (hooks[index].filtered)
			ftrace_free_filter(&hooks[index].ops);
		hooks[index].registered = false;
		hooks[index].filtered = false;
	}
}

void ff_hooks_register(struct ff_hook *hooks, u32 count, const char *consequence)
{
	u32 index;

	for (index = 0; index < count; index++) {
		int err = ff_hook_register(&hooks[index]);

		if (err) {
			pr_warn("freezeframe: cannot hook %s (error %d): %s\n", hooks[index].symbol, err, consequence);
			ff_hooks_unregister(hooks, count);
			return;
		}
	}
}

void ff_hook_module_init(void)
{
	ff_hooks_register(ff_hooks, ARRAY_SIZE(ff_hooks), "memory is armed eagerly, and the window grows with it");
	ff_gate_set_ready(ff_hooks[0].registered && (ff_hooks[0].ops.flags & FTRACE_OPS_FL_IPMODIFY));
	ff_hooks_register(ff_shared_hooks, ARRAY_SIZE(ff_shared_hooks),
			  "shared memory is copied in the stop, and the window grows with it");
	ff_track_hooks_init();
}

void ff_hook_module_exit(void)
{
	ff_track_hooks_exit();
	ff_hooks_unregister(ff_shared_hooks, ARRAY_SIZE(ff_shared_hooks));
	ff_hooks_unregister(ff_hooks, ARRAY_SIZE(ff_hooks));
	ff_gate_module_exit();
}

bool ff_hook_ready(void)
{
	return ff_hooks[ARRAY_SIZE(ff_hooks) - 1].registered;
}

bool ff_hook_shared_ready(void)
{
	return ff_hook_ready() && ff_shared_hooks[ARRAY_SIZE(ff_shared_hooks) - 1].registered;
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

void ff_hook_add_shared(struct ff_shared *shared)
{
	spin_lock(&ff_watched_lock);
	hash_add_rcu(ff_watched_files, &shared->hash, (unsigned long)shared->mapping);
	WRITE_ONCE(ff_watched_file_count, ff_watched_file_count + 1);
	shared->hooked = true;
	spin_unlock(&ff_watched_lock);
}

void ff_hook_remove_shared(struct ff_shared *shared)
{
	spin_lock(&ff_watched_lock);
	if (shared->hooked) {
		hlist_del_init_rcu(&shared->hash);
		WRITE_ONCE(ff_watched_file_count, ff_watched_file_count - 1);
		shared->hooked = false;
	}
	spin_unlock(&ff_watched_lock);
}

void ff_hook_drain(void)
{
	synchronize_rcu();
}
