// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "image.h"

#include <linux/fs.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "bytes.h"
#include "take.h"

static int ff_gather_space(struct ff_space *space, struct ff_bytes *bytes, char *scratch)
{
	u32 index;
	int err = 0;

	for (index = 0; index < space->vma_count && !err; index++) {
		struct ff_vma *vma = &space->vmas[index];

		if (vma->file)
			err = ff_bytes_add_file(bytes, vma->file, scratch, &vma->image.path);
		else if (vma->name)
			err = ff_bytes_add(bytes, vma->name, strlen(vma->name), &vma->image.path);
	}
	return err;
}

static int ff_gather_process(struct ff_process *process, struct ff_bytes *bytes, char *scratch)
{
	struct ff_image_process *image = &process->image;
	struct ff_space *space = process->space;
	int err = 0;

	image->start_code = space->layout.start_code;
	image->end_code = space->layout.end_code;
	image->start_data = space->layout.start_data;
	image->end_data = space->layout.end_data;
	image->start_brk = space->layout.start_brk;
	image->brk = space->layout.brk;
	image->start_stack = space->layout.start_stack;
	image->arg_start = space->layout.arg_start;
	image->arg_end = space->layout.arg_end;
	image->env_start = space->layout.env_start;
	image->env_end = space->layout.env_end;
	image->arm_mode = space->arm_mode;
	image->arm_reason = space->arm_reason;
	image->track = space->track;
	image->parent_id = space->track == FF_TRACK_ON ? space->parent_id : 0;
	image->first_vma = space->first_vma;
	image->vma_count = space->vma_count;
	if (space->exe)
		err = ff_bytes_add_file(bytes, space->exe, scratch, &image->exe);
	if (!err)
		err = ff_bytes_add(bytes, space->saved_auxv, sizeof(space->saved_auxv), &image->auxv);
	return err;
}

/* The threads of one process stand together in the image. */
static int ff_gather_threads(struct ff_snapshot *snap, u32 process, u32 *count, struct ff_bytes *bytes)
{
	struct ff_image_process *image = &snap->processes[process].image;
	struct ff_thread *thread;
	int err = 0;

	image->first_thread = *count;
	list_for_each_entry(thread, &snap->freezer.threads, link) {
		if (thread->process != process || !thread->image.state)
			continue;
		err = ff_bytes_add(bytes, thread->regs, thread->regs_length, &thread->image.regs);
		if (err)
			break;
		++*count;
		image->thread_count++;
	}
	return err;
}

static int ff_gather(struct ff_snapshot *snap, struct ff_bytes *bytes, u32 *threads, u32 *vmas)
{
	char *scratch = kmalloc(PATH_MAX, GFP_KERNEL);
	u32 index;
	int err = scratch ? 0 : -ENOMEM;

	for (index = 0; index < snap->space_count && !err; index++) {
		snap->spaces[index].first_vma = *vmas;
		*vmas += snap->spaces[index].vma_count;
		err = ff_gather_space(&snap->spaces[index], bytes, scratch);
	}
	for (index = 0; index < snap->process_count && !err; index++) {
		err = ff_gather_process(&snap->processes[index], bytes, scratch);
		if (!err)
			err = ff_gather_threads(snap, index, threads, bytes);
	}
	kfree(scratch);
	return err;
}

static struct ff_table ff_table(u64 *at, u32 count, u32 stride)
{
	struct ff_table table = { .offset = *at, .count = count, .stride = stride };

	*at += ALIGN((u64)count * stride, 8);
	return table;
}

static void ff_fill(struct ff_snapshot *snap, struct ff_image_header *header, struct ff_bytes *bytes)
{
	void *meta = snap->meta;
	struct ff_image_process *process = meta + header->processes.offset;
	struct ff_image_thread *thread = meta + header->threads.offset;
	struct ff_image_vma *vma = meta + header->vmas.offset;
	struct ff_thread *frozen;
	u32 index, inner;

	for (index = 0; index < snap->process_count; index++) {
		*process++ = snap->processes[index].image;
		list_for_each_entry(frozen, &snap->freezer.threads, link) {
			if (frozen->process == index && frozen->image.state)
				*thread++ = frozen->image;
		}
	}
	for (index = 0; index < snap->space_count; index++) {
		for (inner = 0; inner < snap->spaces[index].vma_count; inner++)
			*vma++ = snap->spaces[index].vmas[inner].image;
	}
	if (snap->pages.run_count)
		memcpy(meta + header->runs.offset, snap->pages.runs, snap->pages.run_count * sizeof(*snap->pages.runs));
	if (bytes->length)
		memcpy(meta + header->blobs.offset, bytes->data, bytes->length);
	memcpy(meta + header->fds.offset, snap->state.files.fds,
	       snap->state.files.fd_count * sizeof(*snap->state.files.fds));
	memcpy(meta + header->files.offset, snap->state.files.files,
	       snap->state.files.file_count * sizeof(*snap->state.files.files));
}

int ff_image_build(struct ff_snapshot *snap)
{
	struct ff_image_header header = {
		.magic = FF_IMAGE_MAGIC,
		.version = FF_IMAGE_VERSION,
		.page_size = PAGE_SIZE,
		.snapshot_id = snap->id,
		.instance = ff_instance(),
		.instant_ns = snap->instant_ns,
		.instant_realtime_ns = snap->instant_realtime_ns,
		.data_pages = snap->pages.count,
	};
	struct ff_bytes *bytes = &snap->state.bytes; /* the state has put its own there */
	u32 threads = 0, vmas = 0;
	u64 at = sizeof(header);
	int err;

	err = ff_gather(snap, bytes, &threads, &vmas);
	if (err)
		return ff_fail(snap, err, FF_REASON_NO_MEMORY, -1, 0);
	header.processes = ff_table(&at, snap->process_count, sizeof(struct ff_image_process));
	header.threads = ff_table(&at, threads, sizeof(struct ff_image_thread));
	header.vmas = ff_table(&at, vmas, sizeof(struct ff_image_vma));
	header.runs = ff_table(&at, snap->pages.run_count, sizeof(struct ff_image_run));
	header.blobs = ff_table(&at, bytes->length, 1);
	header.fds = ff_table(&at, snap->state.files.fd_count, sizeof(struct ff_image_fd));
	header.files = ff_table(&at, snap->state.files.file_count, sizeof(struct ff_image_file));
	header.data_offset = PAGE_ALIGN(at);
	/* Pages with references of their own, not slabs: what is spliced away outlives the snapshot. */
	snap->meta = vzalloc(header.data_offset);
	if (!snap->meta)
		return ff_fail(snap, -ENOMEM, FF_REASON_NO_MEMORY, -1, 0);
	snap->meta_bytes = header.data_offset;
	memcpy(snap->meta, &header, sizeof(header));
	ff_fill(snap, &header, bytes);
	return 0;
}
