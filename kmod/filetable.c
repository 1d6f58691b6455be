// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "filetable.h"

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/string.h>

#include "compat.h"
#include "locks.h"
#include "pipes.h"
#include "snapshot.h"
#include "sockets.h"
#include "texts.h"

/* From a pointer to a number, for as many as there is room. */
struct ff_index {
	struct {
		const void *key;
		u32 value;
	} * slots;
	u32 bits;
};

/* An open file on its way into the table. */
struct ff_open_file {
	struct ff_fd *entry; /* of the first descriptor that was found to refer to it */
	struct ff_lock *locks;
	u32 process; /* the last that was found to have it */
};

struct ff_resolver {
	struct ff_snapshot *snap;
	char *scratch;
	struct ff_index files; /* struct file: number; and of a pipe's inode, who knows what is in it */
	struct ff_open_file *open;
	char *text;
	size_t text_size;
	u64 pipe_bytes;
};

static int ff_index_open(struct ff_index *index, u32 room)
{
	index->bits = ilog2(max(room, 1u)) + 2;
	index->slots = kvcalloc(1ul << index->bits, sizeof(*index->slots), GFP_KERNEL);
	return index->slots ? 0 : -ENOMEM;
}

/* The value that @key has; it gets @fresh where it is not known yet. */
static u32 ff_index_find(struct ff_index *index, const void *key, u32 fresh)
{
	u32 at = hash_ptr(key, index->bits);

	while (index->slots[at].key && index->slots[at].key != key)
		at = (at + 1) & ((1u << index->bits) - 1);
	if (!index->slots[at].key) {
		index->slots[at].key = key;
		index->slots[at].value = fresh;
	}
	return index->slots[at].value;
}

/* ---- kinds ------------------------------------------------------------- */

static bool ff_inode_is_in_memory(const struct inode *inode)
{
	return inode->i_sb->s_magic == TMPFS_MAGIC || inode->i_sb->s_magic == RAMFS_MAGIC ||
	       inode->i_sb->s_magic == HUGETLBFS_MAGIC;
}

/* Of a regular file: one of a disk, or of the kernel's own? */
static u32 ff_kind_of_regular(struct file *file)
{
	/* Namespaces can be mounted, but nothing is in them. */
	if (file_inode(file)->i_sb->s_magic == NSFS_MAGIC)
		return FF_FILE_OTHER;
	if (!(file_inode(file)->i_sb->s_flags & SB_NOUSER))
		return FF_FILE_REGULAR;
	if (!strncmp(file->f_path.dentry->d_name.name, "memfd:", strlen("memfd:")))
		return FF_FILE_MEMFD;
	return FF_FILE_OTHER; /* a pidfd, secret memory */
}

static u32 ff_kind(struct file *file, u32 mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return ff_kind_of_regular(file);
	case S_IFDIR:
		return FF_FILE_FOLDER;
	case S_IFLNK:
		return FF_FILE_SYMLINK;
	case S_IFCHR:
		return FF_FILE_CHARACTER;
	case S_IFBLK:
		return FF_FILE_BLOCK;
	case S_IFSOCK:
		return FF_FILE_SOCKET;
	case S_IFIFO:
		return file_inode(file)->i_sb->s_magic == PIPEFS_MAGIC ? FF_FILE_PIPE : FF_FILE_FIFO;
	default:
		return ff_text_kind(file);
	}
}

static bool ff_kind_has_name(u32 kind)
{
	return kind <= FF_FILE_BLOCK || kind == FF_FILE_FIFO;
}

/* ---- one open file ------------------------------------------------------ */

static void ff_file_describe(const struct ff_fd *entry, struct ff_image_file *image)
{
	struct inode *inode = file_inode(entry->file);

	image->kind = ff_kind(entry->file, entry->mode);
	image->flags = entry->flags;
	image->mode = entry->mode;
	image->position = entry->position;
	image->size = entry->size;
	image->inode = inode->i_ino;
	image->dev_major = MAJOR(inode->i_sb->s_dev);
	image->dev_minor = MINOR(inode->i_sb->s_dev);
	if (image->kind == FF_FILE_CHARACTER || image->kind == FF_FILE_BLOCK) {
		image->rdev_major = MAJOR(inode->i_rdev);
		image->rdev_minor = MINOR(inode->i_rdev);
	}
	if (S_ISREG(entry->mode) && ff_inode_is_in_memory(inode))
		image->notes |= FF_NOTE_IN_MEMORY;
	if (ff_kind_has_name(image->kind) && d_unlinked(entry->file->f_path.dentry))
		image->notes |= FF_NOTE_DELETED;
}

static int ff_file_add_locks(struct ff_bytes *bytes, const struct ff_lock *locks, struct ff_blob *blob)
{
	struct ff_image_lock *image;
	const struct ff_lock *lock;
	u32 count = 0;

	for (lock = locks; lock; lock = lock->next)
		count++;
	if (!count)
		return 0;
	image = ff_bytes_room(bytes, count * sizeof(*image), blob);
	if (!image)
		return -ENOMEM;
	for (lock = locks; lock; lock = lock->next)
		*image++ = lock->image;
	return 0;
}

static int ff_file_add_text(struct ff_resolver *resolver, const struct ff_fd *entry, struct ff_image_file *image)
{
	struct ff_state *state = &resolver->snap->state;
	size_t length;
	int err;

	if (entry->text) {
		if (entry->text->length >= sizeof(entry->text->data))
			image->notes |= FF_NOTE_TEXT_CUT;
		return ff_bytes_add(&state->bytes, entry->text->data, entry->text->length, &image->text);
	}
	if (!ff_text_is_late(entry->file, entry->mode))
		return 0;
	err = ff_text_read(entry->file, &resolver->text, &resolver->text_size, &length, &image->notes);
	if (err)
		return err;
	if (!ff_preview_is(&state->previews, entry->file, resolver->text, length))
		image->notes |= FF_NOTE_TEXT_LATE;
	return ff_bytes_add(&state->bytes, resolver->text, length, &image->text);
}

/* Both ends of a pipe have the same in it: it is added once. */
static int ff_file_add_pipe(struct ff_resolver *resolver, u32 number, struct ff_image_file *images)
{
	const struct inode *inode = file_inode(resolver->open[number].entry->file);
	u32 knower = ff_index_find(&resolver->files, inode, number);
	struct ff_pipe *pipe = resolver->open[knower].entry->pipe;
	int err = 0;

	if (!images[knower].capacity) {
		err = ff_pipe_add(&resolver->snap->state.bytes, pipe, &resolver->pipe_bytes, &images[knower].pipe);
		images[knower].capacity = pipe->capacity;
		images[knower].notes |= pipe->notes;
	}
	images[number].capacity = images[knower].capacity;
	images[number].notes |= images[knower].notes &
				(FF_NOTE_PIPE_BUSY | FF_NOTE_PIPE_ODD | FF_NOTE_PIPE_FULL | FF_NOTE_PIPE_LENT);
	images[number].pipe = images[knower].pipe;
	return err;
}

static int ff_file_resolve(struct ff_resolver *resolver, u32 number, struct ff_image_file *images)
{
	const struct ff_fd *entry = resolver->open[number].entry;
	struct ff_bytes *bytes = &resolver->snap->state.bytes;
	struct ff_image_file *image = &images[number];
	int err;

	image->id = number + 1;
	ff_file_describe(entry, image);
	err = ff_bytes_add_file(bytes, entry->file, resolver->scratch, &image->path);
	if (!err)
		err = ff_file_add_locks(bytes, resolver->open[number].locks, &image->locks);
	if (!err && entry->pipe)
		err = ff_file_add_pipe(resolver, number, images);
	if (!err && entry->socket)
		err = ff_socket_add(bytes, entry->file, entry->socket, &image->socket);
	if (!err)
		err = ff_file_add_text(resolver, entry, image);
	return err;
}

/* ---- all of them ------------------------------------------------------- */

/* Those of POSIX come from each process that has the file; the others once, for whoever has it has them. */
static void ff_open_file_add_locks(struct ff_open_file *open, struct ff_lock *locks, u32 process, bool first)
{
	while (locks) {
		struct ff_lock *lock = locks;

		locks = lock->next;
		if (lock->image.kind == FF_LOCK_POSIX)
			lock->image.holder = process;
		else if (!first)
			continue;
		lock->next = open->locks;
		open->locks = lock;
	}
}

static void ff_open_file_add(struct ff_resolver *resolver, struct ff_fd *entry, u32 process)
{
	struct ff_file_table *table = &resolver->snap->state.files;
	u32 number = ff_index_find(&resolver->files, entry->file, table->file_count);
	struct ff_open_file *open = &resolver->open[number];
	bool first = number == table->file_count;

	if (first) {
		table->file_count++;
		open->entry = entry;
	}
	if (first || open->process != process)
		ff_open_file_add_locks(open, entry->locks, process, first);
	open->process = process;
	/* Of those who looked into a pipe, one who could see: this may be the first, but need not. */
	if (entry->pipe && !(entry->pipe->notes & FF_NOTE_PIPE_BUSY)) {
		if (open->entry->pipe && (open->entry->pipe->notes & FF_NOTE_PIPE_BUSY))
			open->entry = entry;
		ff_index_find(&resolver->files, file_inode(entry->file), number);
	}
	table->fds[table->fd_count++] = (struct ff_image_fd){
		.fd = entry->fd,
		.flags = entry->fd_flags,
		.file = number,
	};
}

static int ff_resolver_open(struct ff_resolver *resolver)
{
	struct ff_file_table *table = &resolver->snap->state.files;
	u32 index, count = 0;

	for (index = 0; index < resolver->snap->process_count; index++)
		count += resolver->snap->processes[index].held.descriptors.count;
	table->fds = kvcalloc(count, sizeof(*table->fds), GFP_KERNEL);
	resolver->open = kvcalloc(count, sizeof(*resolver->open), GFP_KERNEL);
	/* Twice: a pipe is there by its inode, too. */
	return table->fds && resolver->open ? ff_index_open(&resolver->files, 2 * count) : -ENOMEM;
}

int ff_files_resolve(struct ff_snapshot *snap, char *scratch)
{
	struct ff_resolver resolver = { .snap = snap, .scratch = scratch };
	struct ff_file_table *table = &snap->state.files;
	u32 index, inner;
	int err = ff_resolver_open(&resolver);

	for (index = 0; index < snap->process_count && !err; index++) {
		struct ff_descriptors *descriptors = &snap->processes[index].held.descriptors;

		snap->processes[index].image.first_fd = table->fd_count;
		snap->processes[index].image.fd_count = descriptors->count;
		for (inner = 0; inner < descriptors->count; inner++)
			ff_open_file_add(&resolver, &descriptors->fds[inner], index);
	}
	if (!err) {
		table->files = kvcalloc(table->file_count, sizeof(*table->files), GFP_KERNEL);
		err = table->files ? 0 : -ENOMEM;
	}
	for (index = 0; index < table->file_count && !err; index++)
		err = ff_file_resolve(&resolver, index, table->files);
	kvfree(resolver.text);
	kvfree(resolver.files.slots);
	kvfree(resolver.open);
	return err;
}

void ff_file_table_free(struct ff_file_table *table)
{
	kvfree(table->fds);
	kvfree(table->files);
	memset(table, 0, sizeof(*table));
}
