/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_IMAGE_H
#define FF_IMAGE_H

#include "snapshot.h"

/* Lays out the tables that stand before the pages (see freezeframe_image.h). After the window. */
int ff_image_build(struct ff_snapshot *snap);

#endif
