// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "file.h"

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pipe_fs_i.h>
#include <linux/splice.h>
#include <linux/uio.h>

#include "drain.h"
#include "trace.h"

/* How many pages a read takes hold of at a time. */
#define FF_READ_PAGES 16

static size_t ff_file_left(struct ff_snapshot *snap, loff_t at, size_t wanted)
{
	u64 end = ff_image_bytes(snap);

	return at < end ? min_t(u64, wanted, end - at) : 0;
}

static ssize_t ff_file_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct ff_snapshot *snap = iocb->ki_filp->private_data;
	size_t left = ff_file_left(snap, iocb->ki_pos, iov_iter_count(to));
	struct page *pages[FF_READ_PAGES];
	int got = 0, index = 0;
	ssize_t done = 0;

	while (left) {
		size_t offset = iocb->ki_pos & ~PAGE_MASK;
		size_t part = min_t(size_t, left, PAGE_SIZE - offset);
		size_t copied;

		/* With references of our own, for the copying may fault, and is not to be waited for. */
		if (index == got) {
			index = 0;
			got = ff_drain_get(snap, iocb->ki_pos, pages, FF_READ_PAGES);
			if (got < 0)
				return done ?: got;
		}
		copied = copy_page_to_iter(pages[index], offset, part, to);
		put_page(pages[index++]);
		done += copied;
		left -= copied;
		iocb->ki_pos += copied;
		if (copied < part || fatal_signal_pending(current)) {
			if (!done)
				done = copied < part ? -EFAULT : -EINTR;
			break;
		}
		cond_resched();
	}
	for (; index < got; index++)
		put_page(pages[index]);
	return done;
}

static void ff_splice_release(struct splice_pipe_desc *desc, unsigned int index)
{
	put_page(desc->pages[index]);
}

/* Moves references, not bytes: the pipe holds the very pages. */
static ssize_t ff_file_splice(struct file *file, loff_t *at, struct pipe_inode_info *pipe, size_t length,
			      unsigned int flags)
{
	struct ff_snapshot *snap = file->private_data;
	struct page *pages[PIPE_DEF_BUFFERS];
	struct partial_page partial[PIPE_DEF_BUFFERS] = {};
	struct splice_pipe_desc desc = {
		.pages = pages,
		.partial = partial,
		.nr_pages_max = PIPE_DEF_BUFFERS,
		.ops = &nosteal_pipe_buf_ops,
		.spd_release = ff_splice_release,
	};
	size_t left = ff_file_left(snap, *at, length);
	loff_t pos = *at;
	ssize_t moved;
	int got, index;

	if (!left)
		return 0;
	got = ff_drain_get(snap, pos, pages, PIPE_DEF_BUFFERS);
	if (got < 0)
		return got;
	for (index = 0; index < got && left; index++) {
		struct partial_page *part = &partial[index];

		part->offset = pos & ~PAGE_MASK;
		part->len = min_t(size_t, left, PAGE_SIZE - part->offset);
		pos += part->len;
		left -= part->len;
	}
	desc.nr_pages = index;
	for (; index < got; index++)
		put_page(pages[index]);
	moved = splice_to_pipe(pipe, &desc);
	if (moved > 0)
		*at += moved;
	return moved;
}

static loff_t ff_file_seek(struct file *file, loff_t offset, int whence)
{
	return fixed_size_llseek(file, offset, whence, ff_image_bytes(file->private_data));
}

static int ff_file_release(struct inode *inode, struct file *file)
{
	struct ff_snapshot *snap = file->private_data;
	u64 id = snap->id, begin = ktime_get_ns();

	trace_freezeframe_phase(id, FF_PHASE_DRAIN, FF_EDGE_END, begin, 0);
	trace_freezeframe_phase(id, FF_PHASE_DONE, FF_EDGE_BEGIN, begin, 0);
	ff_snapshot_free(snap);
	trace_freezeframe_phase(id, FF_PHASE_DONE, FF_EDGE_END, ktime_get_ns(), 0);
	return 0;
}

static const struct file_operations ff_file_ops = {
	.owner = THIS_MODULE,
	.read_iter = ff_file_read,
	.splice_read = ff_file_splice,
	.llseek = ff_file_seek,
	.mmap = ff_drain_mmap,
	.unlocked_ioctl = ff_drain_ioctl,
	.release = ff_file_release,
};

struct file *ff_file_new(struct ff_snapshot *snap)
{
	struct file *file = anon_inode_getfile("[freezeframe]", &ff_file_ops, snap, O_RDONLY);

	if (!IS_ERR(file))
		file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	return file;
}
