// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "texts.h"

#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "compat.h"

#define FF_TEXT_FIRST SZ_4K
#define FF_TEXT_LIMIT SZ_1M

u32 ff_text_kind(struct file *file)
{
	static const struct {
		const char *name;
		u32 kind;
	} kinds[] = {
		{ "[eventpoll]", FF_FILE_EPOLL },   { "[eventfd]", FF_FILE_EVENTFD }, { "[timerfd]", FF_FILE_TIMERFD },
		{ "[signalfd]", FF_FILE_SIGNALFD }, { "inotify", FF_FILE_INOTIFY },
	};
	const char *name = file->f_path.dentry->d_name.name;
	u32 index;

	for (index = 0; index < ARRAY_SIZE(kinds); index++) {
		if (!strcmp(name, kinds[index].name))
			return kinds[index].kind;
	}
	return FF_FILE_OTHER;
}

/* As seq_file does it; m->file is there for whoever asks it for a user namespace. */
static size_t ff_text_show(struct file *file, char *buffer, size_t size)
{
	struct seq_file seq = { .buf = buffer, .size = size, .file = file };

	mutex_init(&seq.lock);
	file->f_op->show_fdinfo(&seq, file);
	return seq.count;
}

struct ff_text *ff_text_note(struct file *file, struct ff_arena *arena)
{
	u32 kind = ff_text_kind(file);
	struct ff_text *text;

	if ((kind != FF_FILE_EVENTFD && kind != FF_FILE_TIMERFD && kind != FF_FILE_SIGNALFD) ||
	    !file->f_op->show_fdinfo)
		return NULL;
	text = ff_arena_take(arena, sizeof(*text));
	if (!text)
		return NULL;
	text->kind = kind;
	text->length = ff_text_show(file, text->data, sizeof(text->data));
	return text;
}

bool ff_text_is_late(struct file *file, u32 mode)
{
	u32 kind;

	if (S_ISSOCK(mode) || !file->f_op->show_fdinfo || (file->f_mode & FMODE_PATH))
		return false;
	kind = mode & S_IFMT ? FF_FILE_OTHER : ff_text_kind(file);
	return kind != FF_FILE_EVENTFD && kind != FF_FILE_TIMERFD && kind != FF_FILE_SIGNALFD;
}

/* A pidfd would ask m->file for the process ids of a /proc. */
static int ff_text_of_pidfd(struct pid *pid, char *buffer, size_t size)
{
	return scnprintf(buffer, size, "Pid:\t%d\n", pid_vnr(pid));
}

static int ff_text_grow(char **buffer, size_t *size, size_t to)
{
	char *bigger = kvmalloc(to, GFP_KERNEL);

	if (!bigger)
		return -ENOMEM;
	kvfree(*buffer);
	*buffer = bigger;
	*size = to;
	return 0;
}

int ff_text_read(struct file *file, char **buffer, size_t *size, size_t *length, u32 *notes)
{
	struct pid *pid = ff_pidfd_pid(file);

	*length = 0;
	if (!*size && ff_text_grow(buffer, size, FF_TEXT_FIRST))
		return -ENOMEM;
	if (pid) {
		*length = ff_text_of_pidfd(pid, *buffer, *size);
		return 0;
	}
	for (;;) {
		*length = ff_text_show(file, *buffer, *size);
		if (*length < *size)
			return 0;
		if (*size >= FF_TEXT_LIMIT)
			break;
		if (ff_text_grow(buffer, size, *size * 4))
			return -ENOMEM;
	}
	*notes |= FF_NOTE_TEXT_CUT;
	return 0;
}
