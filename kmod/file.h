/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_FILE_H
#define FF_FILE_H

#include "snapshot.h"

/* The file behind the snapshot fd; from here on its release frees the snapshot. */
struct file *ff_file_new(struct ff_snapshot *snap);

#endif
