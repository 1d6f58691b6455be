/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Shared memory without a file on a disk (shmem): no copy-on-write there, so it is copied in the stop. */
#ifndef FF_SHARED_H
#define FF_SHARED_H

#include "snapshot.h"

/* Is this a shared mapping of tmpfs, a memfd, or MAP_SHARED | MAP_ANONYMOUS? */
bool ff_vma_is_shmem(struct vm_area_struct *vma);
/* At most how many pages of it there are to copy. */
u64 ff_shared_count(struct vm_area_struct *vma);
int ff_shared_copy(struct ff_snapshot *snap, struct ff_space *space, const struct ff_vma *vma);

#endif
