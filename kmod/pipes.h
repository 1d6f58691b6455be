/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What is in pipes and FIFOs: held by reference in the stop, copied after it. */
#ifndef FF_PIPES_H
#define FF_PIPES_H

#include <linux/fs.h>

#include "arena.h"
#include "bytes.h"
#include "freezeframe.h"

struct ff_pipe {
	u64 capacity;
	u32 notes; /* FF_NOTE_PIPE_* */
	u32 count;
	struct {
		struct page *page; /* reference */
		u32 offset;
		u32 length;
	} slots[];
};

/* In the stop. NULL: no room, or not a pipe any more. */
struct ff_pipe *ff_pipe_note(struct file *file, struct ff_arena *arena);
/* After it. @total counts the bytes of all pipes. */
int ff_pipe_add(struct ff_bytes *bytes, struct ff_pipe *pipe, u64 *total, struct ff_blob *blob);
void ff_pipe_drop(struct ff_pipe *pipe);

#endif
