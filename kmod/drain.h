/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What is done with the pages while the image is read: they are mapped, looked at, and let go. Letting one go as soon
 * as it is written spares the target a copy: its next write finds nobody else who holds the page.
 */
#ifndef FF_DRAIN_H
#define FF_DRAIN_H

#include "snapshot.h"

/* Makes room for what is noted of the mappings. */
int ff_drain_prepare(struct ff_snapshot *snap);
int ff_drain_mmap(struct file *file, struct vm_area_struct *vma);
long ff_drain_ioctl(struct file *file, unsigned int command, unsigned long argument);
/* References to @count pages from byte @at of the image on, at most; how many, or -ENODATA: it was let go. */
int ff_drain_get(struct ff_snapshot *snap, u64 at, struct page **pages, u32 count);

#endif
