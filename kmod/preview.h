/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The kinds of open files that tell what they have in words alone can do so only by sleeping locks, which the stop does
 * not take. So they are asked before it and after it: where the answer is the same, it is that of the instant.
 */
#ifndef FF_PREVIEW_H
#define FF_PREVIEW_H

#include <linux/fs.h>

struct ff_snapshot;

/* What was said of an open file before the stop, as a hash. */
struct ff_preview {
	const struct file *file; /* no reference: if it is another by then, that says something else */
	u64 hash;
};

struct ff_previews {
	struct ff_preview *list;
	u32 count;
};

/* In prepare, while everything is noted. */
int ff_previews_take(struct ff_snapshot *snap);
/* Is this what was said? */
bool ff_preview_is(const struct ff_previews *previews, const struct file *file, const char *text, size_t length);
void ff_previews_free(struct ff_previews *previews);

#endif
