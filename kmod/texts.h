/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What /proc/PID/fdinfo says of the kinds of open files that have no other way to tell what they have. */
#ifndef FF_TEXTS_H
#define FF_TEXTS_H

#include <linux/fs.h>

#include "arena.h"
#include "bytes.h"
#include "freezeframe.h"

/* Of an eventfd, timerfd or signalfd, which say so in a few lines and under spinlocks alone. */
struct ff_text {
	u32 kind; /* enum ff_file_kind */
	u32 length;
	char data[320];
};

/* FF_FILE_* of an anonymous inode. */
u32 ff_text_kind(struct file *file);
/* In the stop. NULL: it is not one of these, or there is no room. */
struct ff_text *ff_text_note(struct file *file, struct ff_arena *arena);
/*
 * After it, or before: what the others say. They take sleeping locks. @size is that of @buffer, which grows; @length
 * is 0 where there is nothing to say; FF_NOTE_TEXT_CUT in @notes where there is more.
 */
int ff_text_read(struct file *file, char **buffer, size_t *size, size_t *length, u32 *notes);
/* Has it something to say that ff_text_note() does not know? */
bool ff_text_is_late(struct file *file, u32 mode);

#endif
