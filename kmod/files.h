/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The descriptors of the targets, and the open files that they refer to. */
#ifndef FF_FILES_H
#define FF_FILES_H

#include <linux/fs.h>
#include <linux/sched.h>

#include "arena.h"
#include "freezeframe.h"

struct ff_pipe;
struct ff_socket;
struct ff_text;
struct ff_lock;

/* A descriptor as the stop notes it. */
struct ff_fd {
	struct file *file; /* reference */
	loff_t position;
	loff_t size;
	struct file_lock_context *lock_context; /* of the inode; NULL: there were never any locks */
	struct ff_lock *locks;			/* in the arena, as all these; NULL: none */
	struct ff_pipe *pipe;
	struct ff_socket *socket;
	struct ff_text *text;
	s32 fd;
	u32 fd_flags; /* FF_FD_* */
	u32 flags;    /* O_* */
	u32 mode;     /* of the inode */
};

/* Those of one process. */
struct ff_descriptors {
	struct files_struct *files; /* only to compare it with others'; NULL: it had none any more */
	struct ff_fd *fds;	    /* in the arena, by number */
	u32 count;
};

/* In the stop; does not sleep. */
void ff_files_note(struct task_struct *task, struct ff_arena *arena, struct ff_descriptors *descriptors);
void ff_files_drop(struct ff_descriptors *descriptors);

#endif
