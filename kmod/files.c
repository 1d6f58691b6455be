// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "files.h"

#include <linux/bottom_half.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/prefetch.h>
#include <linux/sched/task.h>

#include "compat.h"
#include "locks.h"
#include "pipes.h"
#include "sockets.h"
#include "texts.h"

/* So many slots of a table are gone through without letting its other users in: a word of its bitmaps. */
#define FF_BATCH BITS_PER_LONG

/* The file of a slot, under file_lock; NULL: it is free, or just being filled. */
static struct file *ff_file_in(struct fdtable *table, u32 fd)
{
	return rcu_dereference_raw(table->fd[fd]);
}

/*
 * Notes the descriptors from slot @from on, FF_BATCH of them. Most of the time goes into what no cache has; so it is
 * asked for ahead, one level of pointers after the other.
 */
static void ff_files_note_batch(struct files_struct *files, u32 from, struct ff_descriptors *descriptors, u32 room)
{
	struct fdtable *table = files_fdtable(files);
	struct ff_fd *first = &descriptors->fds[descriptors->count], *entry = first;
	unsigned long open = table->open_fds[from / FF_BATCH];
	unsigned int bit;

	for_each_set_bit(bit, &open, FF_BATCH) {
		struct file *file = ff_file_in(table, from + bit);

		if (!file || descriptors->count == room)
			continue;
		prefetchw(file);
		prefetch(&file->f_inode);
		prefetch(&file->f_pos);
		*entry = (struct ff_fd){ .file = file, .fd = from + bit };
		if (ff_close_on_exec(from + bit, files))
			entry->fd_flags = FF_FD_CLOEXEC;
		entry++;
		descriptors->count++;
	}
	for (entry = first; entry < &descriptors->fds[descriptors->count]; entry++) {
		get_file(entry->file);
		entry->flags = entry->file->f_flags & ~O_CLOEXEC;
		entry->position = entry->file->f_pos;
		prefetch(file_inode(entry->file));
		prefetch(&file_inode(entry->file)->i_size);
		prefetch(&file_inode(entry->file)->i_flctx);
	}
	for (entry = first; entry < &descriptors->fds[descriptors->count]; entry++) {
		struct inode *inode = file_inode(entry->file);

		entry->mode = inode->i_mode;
		entry->size = i_size_read(S_ISBLK(inode->i_mode) ? entry->file->f_mapping->host : inode);
		entry->lock_context = smp_load_acquire(&inode->i_flctx);
	}
}

/* Takes the reference to each. False: this table has gone, or its place is taken by another. */
static bool ff_files_note_slice(struct task_struct *task, struct ff_arena *arena, struct ff_descriptors *descriptors,
				u32 *from, u32 *room)
{
	struct files_struct *files;
	bool more = false;

	task_lock(task);
	files = task->files;
	if (files && (!*from || files == descriptors->files)) {
		struct fdtable *table;

		spin_lock(&files->file_lock);
		table = files_fdtable(files);
		if (!*from) {
			descriptors->files = files;
			*room = bitmap_weight(table->open_fds, table->max_fds);
			descriptors->fds = ff_arena_take(arena, *room * sizeof(*descriptors->fds));
		}
		while (*from < table->max_fds && !table->open_fds[*from / FF_BATCH])
			*from += FF_BATCH;
		if (descriptors->fds && *from < table->max_fds)
			ff_files_note_batch(files, *from, descriptors, *room);
		*from += FF_BATCH;
		more = descriptors->fds && *from < table->max_fds;
		spin_unlock(&files->file_lock);
	}
	task_unlock(task);
	return more;
}

/* What some kinds have besides. */
static void ff_file_note_more(struct ff_fd *entry, struct files_struct *files, struct ff_arena *arena)
{
	if (entry->lock_context)
		entry->locks = ff_locks_note(entry->lock_context, entry->file, files, arena);
	if (entry->file->f_mode & FMODE_PATH)
		return;
	switch (entry->mode & S_IFMT) {
	case S_IFIFO:
		entry->pipe = ff_pipe_note(entry->file, arena);
		break;
	case S_IFSOCK:
		entry->socket = ff_socket_note(entry->file, arena);
		break;
	case 0: /* anonymous inodes have no type */
		entry->text = ff_text_note(entry->file, arena);
		break;
	}
}

void ff_files_note(struct task_struct *task, struct ff_arena *arena, struct ff_descriptors *descriptors)
{
	u32 index, from = 0, room = 0;

	memset(descriptors, 0, sizeof(*descriptors));
	while (ff_files_note_slice(task, arena, descriptors, &from, &room))
		;
	for (index = 0; index < descriptors->count; index++)
		ff_file_note_more(&descriptors->fds[index], descriptors->files, arena);
}

/*
 * What we hold last, fput() has a process close on its way to user mode, which may be seconds away from here; but where
 * there is no sleeping, a thread of the kernel does it within a jiffy, and nobody waits for it.
 */
static void ff_file_drop(struct file *file)
{
	local_bh_disable();
	fput(file);
	local_bh_enable();
}

void ff_files_drop(struct ff_descriptors *descriptors)
{
	u32 index;

	for (index = 0; index < descriptors->count; index++) {
		struct ff_fd *entry = &descriptors->fds[index];

		ff_pipe_drop(entry->pipe);
		ff_socket_drop(entry->socket);
		ff_file_drop(entry->file);
	}
	memset(descriptors, 0, sizeof(*descriptors));
}
