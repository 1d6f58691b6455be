// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "trackhook.h"

#include <linux/mm.h>

#include "compat.h"
#include "hook.h"
#include "track.h"

/* __ksm_enter(mm): pages of it may be merged from here on. */
static void notrace ff_on_ksm(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	ff_track_void((struct mm_struct *)ff_hook_argument(regs, 0));
}

/* uprobe_write_opcode(auprobe, mm, ...): a page of its code is replaced. */
static void notrace ff_on_uprobe(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				 struct ftrace_regs *regs)
{
	ff_track_void((struct mm_struct *)ff_hook_argument(regs, 1));
}

/* move_page_tables(vma, from, new_vma, to, length, ...), of mremap() */
static void notrace ff_on_move(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	ff_track_move((struct vm_area_struct *)ff_hook_argument(regs, 2), ff_hook_argument(regs, 1),
		      ff_hook_argument(regs, 4));
}

#if FF_USERFAULTFD_MOVES
/* move_pages(context, ...), of userfaultfd */
static void notrace ff_on_userfault_move(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
					 struct ftrace_regs *regs)
{
	ff_track_void(((struct userfaultfd_ctx *)ff_hook_argument(regs, 0))->mm);
}
#endif

#if FF_VMA_MODIFY
/* vma_modify_flags(iterator, prev, vma, start, end, flags), and others that begin the same */
static void notrace ff_on_modify_flags(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				       struct ftrace_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ff_hook_argument(regs, 2);

	ff_track_modify(vma->vm_mm, (struct vm_area_struct *)ff_hook_argument(regs, 1), ff_hook_argument(regs, 3),
			ff_hook_argument(regs, 4), ff_hook_argument(regs, 5));
}

/* vma_modify_policy(iterator, prev, vma, start, end, policy) */
static void notrace ff_on_modify_policy(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
					struct ftrace_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ff_hook_argument(regs, 2);

	ff_track_modify(vma->vm_mm, (struct vm_area_struct *)ff_hook_argument(regs, 1), ff_hook_argument(regs, 3),
			ff_hook_argument(regs, 4), vma->vm_flags);
}

/* vma_merge_extend(iterator, vma, bytes), of mremap() */
static void notrace ff_on_extend(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				 struct ftrace_regs *regs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ff_hook_argument(regs, 1);

	ff_track_fill(vma->vm_mm, vma->vm_end, vma->vm_end + ff_hook_argument(regs, 2));
}

/* copy_vma(&vma, start, bytes, ...), of mremap() */
static void notrace ff_on_copy(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	struct vm_area_struct *vma = *(struct vm_area_struct **)ff_hook_argument(regs, 0);
	unsigned long start = ff_hook_argument(regs, 1);

	ff_track_fill(vma->vm_mm, start, start + ff_hook_argument(regs, 2));
}
#else
/* vma_merge(mm, prev, start, end, flags, ...): of what is there already, or is to be there. */
static void notrace ff_on_merge(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				struct ftrace_regs *regs)
{
	struct mm_struct *mm = (struct mm_struct *)ff_hook_argument(regs, 0);
	unsigned long start = ff_hook_argument(regs, 2), end = ff_hook_argument(regs, 3);

	ff_track_modify(mm, (struct vm_area_struct *)ff_hook_argument(regs, 1), start, end, ff_hook_argument(regs, 4));
	ff_track_fill(mm, start, end);
}
#endif

/* Whatever changes a page, or puts another in its place, and sets no bit; and what loses the flag of a VMA. */
static struct ff_hook ff_track_hooks[] = {
	{ .ops = { .func = ff_on_ksm, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "__ksm_enter" },
	{ .ops = { .func = ff_on_uprobe, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "uprobe_write_opcode" },
#if FF_USERFAULTFD_MOVES
	{ .ops = { .func = ff_on_userfault_move, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "move_pages" },
#endif
#if FF_VMA_MODIFY
	{ .ops = { .func = ff_on_modify_flags, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "vma_modify_flags" },
	{ .ops = { .func = ff_on_modify_flags, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "vma_modify_flags_name" },
	{ .ops = { .func = ff_on_modify_flags, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "vma_modify_flags_uffd" },
	{ .ops = { .func = ff_on_modify_policy, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "vma_modify_policy" },
	{ .ops = { .func = ff_on_extend, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "vma_merge_extend" },
	{ .ops = { .func = ff_on_copy, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "copy_vma" },
#else
	{ .ops = { .func = ff_on_merge, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "vma_merge" },
#endif
	{ .ops = { .func = ff_on_move, .flags = FTRACE_OPS_FL_PERMANENT }, .symbol = "move_page_tables" },
};

void ff_track_hooks_init(void)
{
	ff_hooks_register(ff_track_hooks, ARRAY_SIZE(ff_track_hooks), "every image is whole");
}

void ff_track_hooks_exit(void)
{
	ff_hooks_unregister(ff_track_hooks, ARRAY_SIZE(ff_track_hooks));
}

bool ff_track_hooks_ready(void)
{
	return IS_ENABLED(CONFIG_MEM_SOFT_DIRTY) && ff_track_hooks[ARRAY_SIZE(ff_track_hooks) - 1].registered;
}
