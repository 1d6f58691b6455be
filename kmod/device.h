/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef FF_DEVICE_H
#define FF_DEVICE_H

int ff_device_init(void);
void ff_device_exit(void);

#endif
