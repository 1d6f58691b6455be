/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The image's tables of descriptors and of open files, made from what the stop noted. */
#ifndef FF_FILETABLE_H
#define FF_FILETABLE_H

#include "freezeframe.h"

struct ff_snapshot;

struct ff_file_table {
	struct ff_image_fd *fds;
	u32 fd_count;
	struct ff_image_file *files;
	u32 file_count;
};

/* Fills the tables, and each process's place in them. */
int ff_files_resolve(struct ff_snapshot *snap, char *scratch);
void ff_file_table_free(struct ff_file_table *table);

#endif
