/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The blobs of the image: bytes that its records point to. */
#ifndef FF_BYTES_H
#define FF_BYTES_H

#include <linux/fs.h>

#include "freezeframe.h"

struct ff_bytes {
	u8 *data;
	size_t length;
	size_t limit;
};

/* Room for @length bytes, padded to 8; the caller fills it before it asks for more. NULL: no memory. */
void *ff_bytes_room(struct ff_bytes *bytes, size_t length, struct ff_blob *blob);
int ff_bytes_add(struct ff_bytes *bytes, const void *data, size_t length, struct ff_blob *blob);
/* Both use @scratch, of PATH_MAX bytes; what is longer becomes an empty path. */
int ff_bytes_add_path(struct ff_bytes *bytes, const struct path *path, char *scratch, struct ff_blob *blob);
int ff_bytes_add_file(struct ff_bytes *bytes, struct file *file, char *scratch, struct ff_blob *blob);

#endif
