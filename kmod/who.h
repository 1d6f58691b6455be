/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Who the targets are: credentials, folders, cgroup, namespaces. Held by reference in the stop, told after it. */
#ifndef FF_WHO_H
#define FF_WHO_H

#include <linux/cred.h>
#include <linux/path.h>
#include <linux/sched.h>

#include "bytes.h"
#include "freezeframe.h"

struct cgroup;
struct fs_struct;

struct ff_who {
	const struct cred *cred; /* references, or NULL */
	struct cgroup *cgroup;
	struct path cwd, root;
	struct path old_cwd, old_root; /* of the rehearsal, where they are others */
	const struct fs_struct *fs;    /* only to compare it with others' */
};

/* In the stop; neither sleeps. */
void ff_who_note(struct task_struct *task, struct ff_who *who, struct ff_image_process *image);
/* The credentials of @task if they are not @common; with a reference. */
const struct cred *ff_who_note_other(struct task_struct *task, const struct cred *common);
/* After it. */
int ff_who_add(struct ff_bytes *bytes, const struct ff_who *who, char *scratch, struct ff_image_process *image);
int ff_who_add_credentials(struct ff_bytes *bytes, const struct cred *cred, struct ff_blob *blob);
void ff_who_drop(struct ff_who *who);
/*
 * As ff_who_drop(), but for the folders, of which the next look may find the same. The last reference to one that is
 * removed must not be dropped while its filesystem is frozen: that would wait for the thaw.
 */
void ff_who_forget(struct ff_who *who);

#endif
