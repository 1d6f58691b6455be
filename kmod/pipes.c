// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "pipes.h"

#include <linux/mm.h>
#include <linux/pipe_fs_i.h>

#include "test.h"

/* Slots that a pipe has at first: room for as many, however few are full when it is measured. */
#define FF_SLOTS 16u

/*
 * A page of pipe_write() is the pipe's own: what is in it stays, as more is only added behind it, and whoever reads it
 * leaves it alone while we have it. Those of splice() and vmsplice() are others', who may write to them.
 */
static bool ff_slot_is_lent(const struct pipe_buffer *slot)
{
	return !(slot->flags & PIPE_BUF_FLAG_CAN_MERGE) && !(slot->flags & PIPE_BUF_FLAG_PACKET);
}

static void ff_pipe_hold(struct pipe_inode_info *info, struct ff_pipe *pipe)
{
	unsigned int at;

	for (at = info->tail; at != info->head; at++) {
		struct pipe_buffer *slot = &info->bufs[at & (info->ring_size - 1)];

		if (!slot->len)
			continue;
		if (slot->ops->confirm && ff_slot_is_lent(slot) && !PageUptodate(slot->page)) {
			pipe->notes |= FF_NOTE_PIPE_ODD; /* still being read from a disk */
			continue;
		}
		/* Others count otherwise than by pages: the kernel's traces, SMC. */
		if (slot->ops->get != generic_pipe_buf_get || !generic_pipe_buf_get(info, slot)) {
			pipe->notes |= FF_NOTE_PIPE_ODD;
			continue;
		}
		if (ff_slot_is_lent(slot))
			pipe->notes |= FF_NOTE_PIPE_LENT;
		pipe->slots[pipe->count].page = slot->page;
		pipe->slots[pipe->count].offset = slot->offset;
		pipe->slots[pipe->count].length = slot->len;
		pipe->count++;
	}
}

struct ff_pipe *ff_pipe_note(struct file *file, struct ff_arena *arena)
{
	struct pipe_inode_info *info = file->private_data;
	struct ff_pipe *pipe;
	unsigned int used;
	bool locked;

	/* Whoever has it may sleep for memory of a target, which we hold: no waiting. */
	locked = !(ff_test_state() & FF_TEST_STATE_BUSY) && mutex_trylock(&info->mutex);
	used = locked ? info->head - info->tail : 0;
	pipe = ff_arena_take(arena, struct_size(pipe, slots, max(used, FF_SLOTS)));
	if (pipe) {
		pipe->capacity = (u64)READ_ONCE(info->max_usage) * PAGE_SIZE;
		pipe->notes = 0;
		pipe->count = 0;
		if (!locked)
			pipe->notes = FF_NOTE_PIPE_BUSY;
		else if (pipe_has_watch_queue(info))
			pipe->notes = FF_NOTE_PIPE_ODD;
		else
			ff_pipe_hold(info, pipe);
	}
	if (locked)
		mutex_unlock(&info->mutex);
	return pipe;
}

int ff_pipe_add(struct ff_bytes *bytes, struct ff_pipe *pipe, u64 *total, struct ff_blob *blob)
{
	size_t length = 0;
	u32 index;
	u8 *room;

	for (index = 0; index < pipe->count; index++)
		length += pipe->slots[index].length;
	if (*total + length > FF_PIPE_BYTES)
		pipe->notes |= FF_NOTE_PIPE_FULL;
	if (pipe->notes & (FF_NOTE_PIPE_ODD | FF_NOTE_PIPE_FULL))
		return 0;
	*total += length;
	room = ff_bytes_room(bytes, length, blob);
	if (!room)
		return -ENOMEM;
	for (index = 0; index < pipe->count; index++) {
		/* A slot of splice() may go on in the next page of a large one. */
		memcpy(room, page_address(pipe->slots[index].page) + pipe->slots[index].offset,
		       pipe->slots[index].length);
		room += pipe->slots[index].length;
	}
	return 0;
}

void ff_pipe_drop(struct ff_pipe *pipe)
{
	while (pipe && pipe->count)
		put_page(pipe->slots[--pipe->count].page);
}
