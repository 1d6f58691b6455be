/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A filesystem that has no freezing of its own, made read-only while it is frozen all the same.
 *
 * freeze_super() holds up every write() and every change of a name there, on any filesystem. What passes by it where no
 * device is beneath are stores into mappings. So that no new one comes about, nobody opens a file for writing from here
 * on (EROFS), and the descriptors that are open for writing lose that, which also ends their write() at once (EBADF).
 *
 * The counters of writers (i_writecount, those of the mounts, FMODE_WRITER that says who counts) stay as they are: the
 * files are still counted, and were one not, somebody could start it as a program meanwhile, or take a lease, and the
 * descriptor could not get back what it had. We hold a reference to each file, so the __fput() of one that is closed
 * meanwhile, which wants mode and counters to agree, comes after its mode is back.
 */
#ifndef FF_READONLY_H
#define FF_READONLY_H

#include <linux/fs.h>

struct ff_downgraded {
	struct file *file; /* reference */
	fmode_t taken;	   /* the bits that it gets back */
};

struct ff_readonly {
	struct ff_downgraded *files;
	u32 count, capacity;
	bool on; /* no file is opened for writing */
};

/* Does it do without freezing of its own, and does all that writes to it come through here? */
bool ff_readonly_suits(const struct super_block *sb);
/* Of a frozen filesystem. On failure, too, ff_readonly_end() undoes it. */
int ff_readonly_begin(struct ff_readonly *readonly, struct super_block *sb);
/* Before it thaws. Safe more than once. */
void ff_readonly_end(struct ff_readonly *readonly, struct super_block *sb);
/* After that, in a kernel thread: files that were closed meanwhile end here, which may write to the filesystem. */
void ff_readonly_put(struct ff_readonly *readonly);
/* Of all its files: how often one is open for writing, and how many mappings can be written through. */
void ff_readonly_count(struct super_block *sb, u32 *writers, u32 *mappings);

#endif
