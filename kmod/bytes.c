// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "bytes.h"

#include <linux/dcache.h>
#include <linux/mm.h>

void *ff_bytes_room(struct ff_bytes *bytes, size_t length, struct ff_blob *blob)
{
	if (bytes->length + length + 8 > bytes->limit) {
		size_t limit = max(bytes->length + length + 8, bytes->limit * 2);
		u8 *bigger = limit > INT_MAX ? NULL : kvmalloc(limit, GFP_KERNEL);

		if (!bigger)
			return NULL;
		if (bytes->data)
			memcpy(bigger, bytes->data, bytes->length);
		kvfree(bytes->data);
		bytes->data = bigger;
		bytes->limit = limit;
	}
	blob->offset = bytes->length;
	blob->length = length;
	memset(bytes->data + bytes->length + length, 0, ALIGN(length, 8) - length);
	bytes->length += ALIGN(length, 8);
	return bytes->data + blob->offset;
}

int ff_bytes_add(struct ff_bytes *bytes, const void *data, size_t length, struct ff_blob *blob)
{
	void *room = ff_bytes_room(bytes, length, blob);

	if (!room)
		return -ENOMEM;
	memcpy(room, data, length);
	return 0;
}

int ff_bytes_add_path(struct ff_bytes *bytes, const struct path *path, char *scratch, struct ff_blob *blob)
{
	char *text = d_path(path, scratch, PATH_MAX);

	if (IS_ERR(text)) /* longer than PATH_MAX */
		text = "";
	return ff_bytes_add(bytes, text, strlen(text), blob);
}

int ff_bytes_add_file(struct ff_bytes *bytes, struct file *file, char *scratch, struct ff_blob *blob)
{
	return ff_bytes_add_path(bytes, &file->f_path, scratch, blob);
}
