// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "regs.h"

#include <linux/elf.h>
#include <linux/regset.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <asm/msr.h>
#include <asm/pkru.h>

/*
 * Of whoever loads the module, so that of 64 bits: a thread that happens to run code of 32 bits has the same registers,
 * and they are laid out alike.
 */
static const struct user_regset_view *ff_regs_view;

struct ff_regset_header {
	u32 type;
	u32 length;
};

static bool ff_regset_wanted(const struct user_regset *set)
{
	return set->core_note_type == NT_PRSTATUS || set->core_note_type == NT_PRFPREG ||
	       set->core_note_type == NT_X86_XSTATE;
}

void ff_regs_module_init(void)
{
	ff_regs_view = task_user_regset_view(current);
}

static size_t ff_regs_total(void)
{
	size_t bytes = 0;
	unsigned int index;

	for (index = 0; index < ff_regs_view->n; index++) {
		const struct user_regset *set = &ff_regs_view->regsets[index];

		if (ff_regset_wanted(set))
			bytes += sizeof(struct ff_regset_header) + ALIGN(set->n * set->size, 8);
	}
	return bytes;
}

int ff_regs_reserve(struct ff_thread *thread)
{
	size_t room = ff_regs_total();

	if (thread->regs_room >= room)
		return 0;
	kvfree(thread->regs);
	thread->regs = kvzalloc(room, GFP_KERNEL);
	thread->regs_room = thread->regs ? room : 0;
	return thread->regs ? 0 : -ENOMEM;
}

static void ff_regset_copy(struct ff_thread *thread, const struct user_regset *set)
{
	struct ff_regset_header *header = thread->regs + thread->regs_length;
	size_t room = set->n * set->size;
	struct membuf to = { .p = header + 1, .left = room };
	int left = set->regset_get(thread->task, set, to);

	if (left < 0) /* this CPU or this thread has no such set */
		return;
	header->type = set->core_note_type;
	header->length = room - left;
	thread->regs_length += sizeof(*header) + ALIGN(header->length, 8);
}

static void ff_regs_copy_sets(struct ff_thread *thread, bool general)
{
	unsigned int index;

	for (index = 0; index < ff_regs_view->n; index++) {
		const struct user_regset *set = &ff_regs_view->regsets[index];

		if (ff_regset_wanted(set) && general == (set->core_note_type == NT_PRSTATUS))
			ff_regset_copy(thread, set);
	}
}

bool ff_regs_park(struct ff_thread *thread)
{
	bool own = thread->regs_room >= ff_regs_total();

	thread->regs_own = own;
	/* Whoever sees us parked waits for the lock. */
	spin_lock(&thread->regs_lock);
	smp_store_release(&thread->parked, true);
	/* If we were still without being parked, the take may have begun. */
	if (own && !thread->regs_length) {
		/* The register is the program's own, and XSAVE's copy of it is taken from here. */
		current->thread.pkru = read_pkru();
		ff_regs_copy_sets(thread, true);
		ff_regs_copy_sets(thread, false);
		/* Where a switch would store them from. */
		rdmsrl(MSR_FS_BASE, thread->image.fs_base);
		rdmsrl(MSR_KERNEL_GS_BASE, thread->image.gs_base);
	}
	spin_unlock(&thread->regs_lock);
	return own;
}

/*
 * The registers that a system call's result goes into, and the rest of the kernel's frame. The others belong to user
 * mode alone: they stay in memory as they are until the thread goes there, which it does not before ff_regs_finish().
 */
static int ff_regs_begin(struct ff_thread *thread)
{
	if (ff_regs_reserve(thread))
		return -ENOMEM;
	spin_lock(&thread->regs_lock);
	if (!thread->regs_length) {
		ff_regs_copy_sets(thread, true);
		thread->image.fs_base = thread->task->thread.fsbase;
		thread->image.gs_base = thread->task->thread.gsbase;
		thread->regs_due = true;
	}
	spin_unlock(&thread->regs_lock);
	return 0;
}

void ff_regs_rehearse(struct ff_thread *spare)
{
	spin_lock_init(&spare->regs_lock);
	spare->task = current;
	ff_regs_begin(spare);
	spare->task = NULL;
	spare->regs_due = false;
	spare->regs_length = 0;
	memset(&spare->image, 0, sizeof(spare->image));
}

void ff_regs_finish(struct ff_thread *thread)
{
	spin_lock(&thread->regs_lock);
	if (thread->regs_due)
		ff_regs_copy_sets(thread, false);
	thread->regs_due = false;
	spin_unlock(&thread->regs_lock);
}

void ff_regs_finish_all(struct ff_snapshot *snap)
{
	struct ff_thread *thread;

	list_for_each_entry(thread, &snap->freezer.threads, link)
		ff_regs_finish(thread);
}

int ff_regs_copy(struct ff_snapshot *snap)
{
	struct ff_thread *thread;

	/* No lock, and those whose state was noted: see ff_state_note(). */
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		struct task_struct *task = thread->task;

		if (!thread->image.state)
			continue;
		thread->image.sigblocked = task->blocked.sig[0];
		BUILD_BUG_ON(sizeof(thread->image.comm) != sizeof(task->comm));
		memcpy(thread->image.comm, task->comm, sizeof(thread->image.comm));
		thread->image.comm[sizeof(thread->image.comm) - 1] = 0;
		if (thread->state != FF_THREAD_KERNEL && ff_regs_begin(thread))
			return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	}
	return 0;
}
