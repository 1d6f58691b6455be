/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Memory for what the stop notes, had ahead. What does not fit is counted all the same: so a walk with no room at all
 * measures how much there has to be.
 */
#ifndef FF_ARENA_H
#define FF_ARENA_H

#include <linux/align.h>
#include <linux/mm.h>
#include <linux/string.h>

struct ff_arena {
	u8 *data;
	size_t room;
	size_t used; /* more than room: that much was missing */
};

/* Aligned to 8, with anything in it; NULL where there is no room. */
static inline void *ff_arena_take(struct ff_arena *arena, size_t bytes)
{
	size_t at = arena->used;

	arena->used += ALIGN(bytes, 8);
	return arena->used > arena->room ? NULL : arena->data + at;
}

static inline void *ff_arena_take_zeroed(struct ff_arena *arena, size_t bytes)
{
	void *room = ff_arena_take(arena, bytes);

	return room ? memset(room, 0, bytes) : NULL;
}

static inline bool ff_arena_overflows(const struct ff_arena *arena)
{
	return arena->used > arena->room;
}

static inline int ff_arena_reserve(struct ff_arena *arena, size_t room)
{
	kvfree(arena->data);
	arena->room = 0;
	arena->used = 0;
	/* Cleared, so that its pages have been written to before the stop. */
	arena->data = kvzalloc(room, GFP_KERNEL);
	if (!arena->data)
		return -ENOMEM;
	arena->room = room;
	return 0;
}

static inline void ff_arena_free(struct ff_arena *arena)
{
	kvfree(arena->data);
	memset(arena, 0, sizeof(*arena));
}

#endif
