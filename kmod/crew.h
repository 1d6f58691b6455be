/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Arming by several processors at once: in the stop the targets' are idle. The memory of all lazily armed address
 * spaces is cut into jobs; the caller takes one after the other, and so does whoever of the helpers has come up
 * meanwhile. A helper does what is plain, and leaves to the caller what wants memory, or a page that is not there.
 */
#ifndef FF_CREW_H
#define FF_CREW_H

#include "snapshot.h"

struct ff_job {
	struct ff_space *space;
	struct ff_vma *vma;
	unsigned long start, end;
};

int ff_crew_init(void);
void ff_crew_exit(void);
/* Opens the list of jobs, and calls helpers if there is enough to do. In the stop. */
void ff_crew_begin(struct ff_snapshot *snap);
/* The next job for the caller; false: there is none, and no helper is at work any more. */
bool ff_crew_next(struct ff_job *job);
/* Closes the list, also in the midst of it; no helper touches the snapshot any more. Safe more than once. */
void ff_crew_end(void);

#endif
