// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "preview.h"

#include <linux/mm.h>
#include <linux/xxhash.h>

#include "snapshot.h"
#include "texts.h"

static u64 ff_preview_hash(const char *text, size_t length)
{
	return xxh64(text, length, 0);
}

int ff_previews_take(struct ff_snapshot *snap)
{
	struct ff_previews *previews = &snap->state.previews;
	size_t size = 0, length;
	char *buffer = NULL;
	u32 index, inner, room = 0;
	int err = 0;

	for (index = 0; index < snap->process_count; index++) {
		const struct ff_descriptors *descriptors = &snap->processes[index].held.descriptors;

		for (inner = 0; inner < descriptors->count; inner++)
			room += ff_text_is_late(descriptors->fds[inner].file, descriptors->fds[inner].mode);
	}
	previews->list = kvcalloc(room, sizeof(*previews->list), GFP_KERNEL);
	if (!previews->list)
		return -ENOMEM;
	for (index = 0; index < snap->process_count; index++) {
		const struct ff_descriptors *descriptors = &snap->processes[index].held.descriptors;

		for (inner = 0; inner < descriptors->count && !err; inner++) {
			struct file *file = descriptors->fds[inner].file;
			u32 notes = 0;

			if (previews->count == room || !ff_text_is_late(file, descriptors->fds[inner].mode))
				continue;
			err = ff_text_read(file, &buffer, &size, &length, &notes);
			previews->list[previews->count].file = file;
			previews->list[previews->count++].hash = err ? 0 : ff_preview_hash(buffer, length);
		}
	}
	kvfree(buffer);
	return err;
}

bool ff_preview_is(const struct ff_previews *previews, const struct file *file, const char *text, size_t length)
{
	u32 index;

	for (index = 0; index < previews->count; index++) {
		if (previews->list[index].file == file)
			return previews->list[index].hash == ff_preview_hash(text, length);
	}
	return false;
}

void ff_previews_free(struct ff_previews *previews)
{
	kvfree(previews->list);
	memset(previews, 0, sizeof(*previews));
}
