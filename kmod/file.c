// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "file.h"

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pipe_fs_i.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "trace.h"

/* The page that holds byte @at of the image. */
static struct page *ff_file_page(struct ff_snapshot *snap, u64 at)
{
	if (at >= snap->meta_bytes)
		return ff_pages_get(&snap->pages, (at - snap->meta_bytes) >> PAGE_SHIFT);
	return vmalloc_to_page(snap->meta + at);
}

static size_t ff_file_left(struct ff_snapshot *snap, loff_t at, size_t wanted)
{
	u64 end = ff_image_bytes(snap);

	return at < end ? min_t(u64, wanted, end - at) : 0;
}

static ssize_t ff_file_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct ff_snapshot *snap = iocb->ki_filp->private_data;
	size_t left = ff_file_left(snap, iocb->ki_pos, iov_iter_count(to));
	ssize_t done = 0;

	while (left) {
		size_t offset = iocb->ki_pos & ~PAGE_MASK;
		size_t part = min_t(size_t, left, PAGE_SIZE - offset);
		size_t copied = copy_page_to_iter(ff_file_page(snap, iocb->ki_pos), offset, part, to);

		done += copied;
		left -= copied;
		iocb->ki_pos += copied;
		if (copied < part)
			return done ?: -EFAULT;
		if (fatal_signal_pending(current))
			return done ?: -EINTR;
		cond_resched();
	}
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

	while (left && desc.nr_pages < PIPE_DEF_BUFFERS) {
		struct partial_page *part = &partial[desc.nr_pages];

		part->offset = pos & ~PAGE_MASK;
		part->len = min_t(size_t, left, PAGE_SIZE - part->offset);
		pages[desc.nr_pages] = ff_file_page(snap, pos);
		get_page(pages[desc.nr_pages++]);
		pos += part->len;
		left -= part->len;
	}
	if (!desc.nr_pages)
		return 0;
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
	.release = ff_file_release,
};

struct file *ff_file_new(struct ff_snapshot *snap)
{
	struct file *file = anon_inode_getfile("[freezeframe]", &ff_file_ops, snap, O_RDONLY);

	if (!IS_ERR(file))
		file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	return file;
}
