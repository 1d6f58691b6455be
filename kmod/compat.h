/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Every difference between the supported kernels (6.1 and 6.12) lives here. */
#ifndef FF_COMPAT_H
#define FF_COMPAT_H

#include <linux/capability.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/ftrace.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/nsproxy.h>
#include <linux/pid.h>
#include <linux/proc_ns.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#include <linux/filelock.h>
#endif

#include "freezeframe.h"

/* 6.6 renamed ptep_get() users; 6.1 has it as well. 6.5 dropped the vmas argument. */
static inline long ff_get_user_page(struct mm_struct *mm, unsigned long addr, struct page **page)
{
	unsigned int flags = FOLL_FORCE | FOLL_HWPOISON; /* the latter tells -EHWPOISON from -EFAULT */

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	return get_user_pages_remote(mm, addr, 1, flags, page, NULL);
#else
	return get_user_pages_remote(mm, addr, 1, flags, page, NULL, NULL);
#endif
}

/*
 * How many page table entries map a folio, or parts of it. Before 6.9 nobody counted that (total_mapcount()
 * in mm/huge_memory.c, which is not exported, did this), and a folio mapped both ways counted each part once too often.
 */
static inline int ff_folio_mapped(struct folio *folio)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	return folio_mapcount(folio);
#else
	long index, parts = folio_nr_pages(folio);
	int whole = folio_test_large(folio) ? folio_entire_mapcount(folio) : 0, mapped = whole;

	for (index = 0; index < parts; index++)
		mapped += atomic_read(&folio_page(folio, index)->_mapcount) + 1;
	/* Each part of a file's counts the mappings of the whole as well. */
	if (!folio_test_anon(folio))
		return mapped - whole * parts;
	return PageDoubleMap(&folio->page) ? mapped - parts : mapped;
#endif
}

/* Does any page table map this page, alone or as a part of a large one? */
static inline bool ff_page_is_mapped(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio_test_large(folio) && folio_entire_mapcount(folio))
		return true;
	return atomic_read(&page->_mapcount) >= 0;
}

/* 6.8 lets userfaultfd move pages. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define FF_USERFAULTFD_MOVES 1
#else
#define FF_USERFAULTFD_MOVES 0
#endif

/* Functions of their own change the flags of a VMA and join it with its neighbours; before, vma_merge() did all of
 * that. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define FF_VMA_MODIFY 1
#else
#define FF_VMA_MODIFY 0
#endif

/* The bit alone, where the lock of the VMA cannot be waited for. mmap_lock held for writing. */
static inline void ff_vma_mark_soft_dirty(struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	ACCESS_PRIVATE(vma, __vm_flags) |= VM_SOFTDIRTY;
#else
	vma->vm_flags |= VM_SOFTDIRTY;
#endif
}

/*
 * What pte_wrprotect() does to an entry with RW and DIRTY set. 6.6 moves the dirty bit of what is not writable
 * elsewhere, for shadow stacks, by shifts that cost more than the rest of the loop.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define FF_WRPROTECT_DIRTY (_PAGE_RW | _PAGE_DIRTY | _PAGE_SAVED_DIRTY) /* the bits that change */
#else
#define FF_WRPROTECT_DIRTY _PAGE_RW
#endif

/*
 * Exported for modules, but <asm/tlbflush.h> does not declare it for them. This is how it begins, from 5.12 on; set
 * while the processor runs a kernel thread on the page tables of whom it ran before.
 */
struct tlb_state_shared {
	bool is_lazy;
};
DECLARE_PER_CPU_SHARED_ALIGNED(struct tlb_state_shared, cpu_tlbstate_shared);

/* The static function that all of GUP-fast goes through; 6.10 renamed it. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define FF_GUP_FAST "gup_fast_fallback"
#else
#define FF_GUP_FAST "internal_get_user_pages_fast"
#endif

/* Argument @number of a function that ftrace has stopped at. 6.2 gave that a name. */
static __always_inline unsigned long ff_hook_argument(struct ftrace_regs *regs, unsigned int number)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	return ftrace_regs_get_argument(regs, number);
#else
	return regs_get_kernel_argument(&regs->regs, number);
#endif
}

/* Has a function that ftrace has stopped at go on elsewhere. 6.2 gave that another name. */
static __always_inline void ff_hook_lead(struct ftrace_regs *regs, unsigned long to)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	ftrace_regs_set_instruction_pointer(regs, to);
#else
	ftrace_instruction_pointer_set(regs, to);
#endif
}

/* Where change_protection() has its flags, and mfill_atomic_install_pte() the VMA, in front of the address. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define FF_CHANGE_PROTECTION_FLAGS 4
#define FF_INSTALL_VMA 1
#else
#define FF_CHANGE_PROTECTION_FLAGS 5
#define FF_INSTALL_VMA 2
#endif

#ifndef CONFIG_MMU_NOTIFIER
#error "Freezeframe needs a kernel with CONFIG_MMU_NOTIFIER, which KVM brings in"
#endif

/*
 * Has anybody else than @ours a notifier in this mm? mm_has_notifiers() says yes for good once there was one, ours
 * included, and the list is private to mm/mmu_notifier.c: this is how it begins there, from 5.5 on. Under mmap_lock no
 * notifier comes, though one may go.
 */
static inline bool ff_mm_has_other_notifier(struct mm_struct *mm, struct mmu_notifier *ours)
{
	const struct {
		struct hlist_head list;
		bool has_itree;
		spinlock_t lock;
		unsigned long invalidate_seq;
		unsigned long active_invalidate_ranges;
		struct rb_root_cached itree;
	} *subscriptions = (const void *)READ_ONCE(mm->notifier_subscriptions);
	struct hlist_node *first;

	if (!subscriptions)
		return false;
	first = READ_ONCE(subscriptions->list.first);
	if (ours && first == &ours->hlist)
		first = READ_ONCE(ours->hlist.next);
	else if (ours)
		return true; /* somebody came after us */
	return first || READ_ONCE(subscriptions->itree.rb_root.rb_node);
}

/* 6.4 took page faults out of mmap_lock; a write-locked VMA sends them back to it. */
static inline void ff_vma_lock(struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	vma_start_write(vma);
#endif
}

/* 6.3 made the flags private. Both locks held for writing. */
static inline void ff_vma_clear_flags(struct vm_area_struct *vma, unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_clear(vma, flags);
#else
	vma->vm_flags &= ~flags;
#endif
}

static inline void ff_vma_set_flags(struct vm_area_struct *vma, unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

/* Looks at what ff_vma_lock() will write to. */
static inline void ff_vma_rehearse_lock(struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	rwsem_is_locked(&vma->vm_lock->lock);
#endif
}

/* 6.4 took page faults out of mmap_lock: a fault holds either the lock of its VMA or that one, and says which. */
static inline void ff_fault_unlock(struct vm_area_struct *vma, unsigned int flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	if (flags & FAULT_FLAG_VMA_LOCK) {
		vma_end_read(vma);
		return;
	}
#endif
	mmap_read_unlock(vma->vm_mm);
}

/* Exported for modules, but declared in kernel/rcu/rcu.h alone. */
void rcu_expedite_gp(void);
void rcu_unexpedite_gp(void);

/*
 * 6.6 lets freezes nest, and tells who froze: others can neither thaw ours nor keep us from it. Before, there is one
 * freeze, and anybody may end it.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define FF_FREEZES_NEST true
#else
#define FF_FREEZES_NEST false
#endif

static inline int ff_freeze_super(struct super_block *sb)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	if (sb->s_op->freeze_super)
		return sb->s_op->freeze_super(sb, FREEZE_HOLDER_KERNEL);
	return freeze_super(sb, FREEZE_HOLDER_KERNEL);
#else
	if (sb->s_op->freeze_super)
		return sb->s_op->freeze_super(sb);
	return freeze_super(sb);
#endif
}

/* -EINVAL: somebody else has thawed it. Where freezes nest, it says that although ours is gone: another's remains. */
static inline int ff_thaw_super(struct super_block *sb)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	if (sb->s_op->thaw_super)
		sb->s_op->thaw_super(sb, FREEZE_HOLDER_KERNEL);
	else
		thaw_super(sb, FREEZE_HOLDER_KERNEL);
	return 0;
#else
	if (sb->s_op->thaw_super)
		return sb->s_op->thaw_super(sb);
	return thaw_super(sb);
#endif
}

/* 6.12 dropped mmap_write_trylock(), which nobody used. */
static inline bool ff_mmap_write_trylock(struct mm_struct *mm)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return down_write_trylock(&mm->mmap_lock);
#else
	return mmap_write_trylock(mm);
#endif
}

/* 6.12 leaves a sleeper on the run queue until it is picked once more (delayed dequeue). */
static inline bool ff_task_queued(struct task_struct *task)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return READ_ONCE(task->on_rq) && !READ_ONCE(task->se.sched_delayed);
#else
	return READ_ONCE(task->on_rq);
#endif
}

/* 6.4 added user workers (vhost) beside io_uring's. None of them ever runs user code. */
static inline bool ff_task_is_worker(struct task_struct *task)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	return task->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER);
#else
	return task->flags & (PF_KTHREAD | PF_IO_WORKER);
#endif
}

/*
 * The process behind a pidfd, with a reference. pidfd_get_pid() is not exported. 6.9 gave pidfds a filesystem
 * of their own; before, they were anonymous inodes that nothing but their name tells apart.
 */
static inline struct pid *ff_pidfd_pid(struct file *file)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	return file_inode(file)->i_sb->s_magic == PID_FS_MAGIC ? file_inode(file)->i_private : NULL;
#else
	bool anonymous = file_inode(file)->i_sb->s_magic == ANON_INODE_FS_MAGIC;

	return anonymous && !strcmp(file->f_path.dentry->d_name.name, "[pidfd]") ? file->private_data : NULL;
#endif
}

/* NULL: not a pidfd. */
static inline struct pid *ff_pidfd_get_pid(int fd)
{
	struct file *file = fget(fd);
	struct pid *pid = NULL;

	if (file) {
		pid = get_pid(ff_pidfd_pid(file));
		fput(file);
	}
	return pid;
}

/* 6.1 calls a page that could not be read back "swapin error", 6.6 folded that into the poison marker. */
static inline bool ff_pte_is_lost(pte_t pte)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	return is_poisoned_swp_entry(pte_to_swp_entry(pte));
#else
	return is_swapin_error_entry(pte_to_swp_entry(pte));
#endif
}

/* 6.3 made it one number. */
static inline u64 ff_cap_bits(kernel_cap_t set)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	return set.val;
#else
	return set.cap[0] | (u64)set.cap[1] << 32;
#endif
}

/* It is private to fs/; this is how it begins, from 3.19 on. */
static inline u32 ff_mnt_ns_inode(const struct mnt_namespace *ns)
{
	return ns ? ((const struct ns_common *)ns)->inum : 0;
}

/* 6.12 looks for the table itself. */
static inline bool ff_close_on_exec(unsigned int fd, const struct files_struct *files)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return close_on_exec(fd, files);
#else
	return close_on_exec(fd, rcu_dereference_raw(files->fdt));
#endif
}

/* 6.3 has areas of more than one length. */
static inline void ff_task_rseq(const struct task_struct *task, struct ff_image_thread *image)
{
#ifdef CONFIG_RSEQ
	image->rseq = (unsigned long)task->rseq;
	image->rseq_signature = task->rseq_sig;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	image->rseq_bytes = task->rseq_len;
#else
	image->rseq_bytes = task->rseq ? 32 : 0;
#endif
#endif
}

/* Has it ever called io_setup()? */
static inline bool ff_mm_has_aio(const struct mm_struct *mm)
{
#ifdef CONFIG_AIO
	return rcu_access_pointer(mm->ioctx_table);
#else
	return false;
#endif
}

static inline bool ff_task_has_io_uring(const struct task_struct *task)
{
#ifdef CONFIG_IO_URING
	return task->io_uring;
#else
	return false;
#endif
}

/*
 * All threads that pthread_create() makes share a list, mostly an empty one. It is private to ipc/sem.c; this is how it
 * begins, from 4.13 on. Who exits meanwhile frees it: then what is read is of no use, but no harm.
 */
static inline bool ff_task_has_sem_undo(const struct task_struct *task)
{
#ifdef CONFIG_SYSVIPC
	struct ff_sem_undo_list {
		refcount_t refcnt;
		spinlock_t lock;
		struct list_head list_proc;
	} *undo = (void *)READ_ONCE(task->sysvsem.undo_list);
	struct list_head *first;

	return undo && !get_kernel_nofault(first, &undo->list_proc.next) && first != &undo->list_proc;
#else
	return false;
#endif
}

/* 6.11 made the list of POSIX timers one of its own kind. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define ff_for_each_posix_timer(timer, signal) hlist_for_each_entry(timer, &(signal)->posix_timers, list)
#else
#define ff_for_each_posix_timer(timer, signal) list_for_each_entry(timer, &(signal)->posix_timers, list)
#endif

/* 6.9 moved what locks and leases have in common to a struct of its own. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
typedef struct file_lock_core ff_file_lock;
#define ff_lock_link flc_list
#define ff_lock_owner(lock) ((lock)->flc_owner)
#define ff_lock_file(lock) ((lock)->flc_file)
#define ff_lock_type(lock) ((lock)->flc_type)
#define ff_lock_is_ofd(lock) ((lock)->flc_flags & FL_OFDLCK)
#define ff_lock_is_lease(lock) ((lock)->flc_flags & FL_LEASE)
/* Not of leases. */
#define ff_lock_start(lock) (container_of(lock, struct file_lock, c)->fl_start)
#define ff_lock_end(lock) (container_of(lock, struct file_lock, c)->fl_end)
#else
typedef struct file_lock ff_file_lock;
#define ff_lock_link fl_list
#define ff_lock_owner(lock) ((lock)->fl_owner)
#define ff_lock_file(lock) ((lock)->fl_file)
#define ff_lock_type(lock) ((lock)->fl_type)
#define ff_lock_is_ofd(lock) ((lock)->fl_flags & FL_OFDLCK)
#define ff_lock_is_lease(lock) ((lock)->fl_flags & FL_LEASE)
#define ff_lock_start(lock) ((lock)->fl_start)
#define ff_lock_end(lock) ((lock)->fl_end)
#endif

#endif
