// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "device.h"

#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "freezeframe.h"
#include "gate.h"
#include "hook.h"
#include "take.h"
#include "test.h"
#include "trackhook.h"

static int ff_device_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static long ff_get_info(struct ff_info __user *to)
{
	struct ff_info info = {
		.abi_version = ff_test_abi_version(),
		.phase_count = FF_PHASE_COUNT,
		.features = FF_FEATURE_ARM_EAGER | FF_FEATURE_FREEZE_SOFT | FF_FEATURE_FREEZE_IPI |
			    FF_FEATURE_FREEZE_SIGNAL | FF_FEATURE_SHARED_COPY | FF_TEST_FEATURES |
			    (ff_hook_ready() ? FF_FEATURE_ARM_LAZY | FF_FEATURE_ARM_PUD : 0) |
			    (ff_hook_shared_ready() ? FF_FEATURE_SHARED_LAZY : 0) | FF_FEATURE_FILESYSTEMS |
			    FF_FEATURE_READ_ONLY | (ff_track_hooks_ready() ? FF_FEATURE_TRACK : 0) | FF_FEATURE_STATE |
			    (ff_gate_ready() ? FF_FEATURE_FAULT_GATE : 0),
		.max_targets = FF_MAX_TARGETS,
		.open_snapshots = ff_open_snapshots(),
	};

	strscpy(info.module_version, THIS_MODULE->version, sizeof(info.module_version));
	return copy_to_user(to, &info, sizeof(info)) ? -EFAULT : 0;
}

static long ff_device_take(struct ff_take __user *user)
{
	struct file *file = NULL;
	struct ff_take take;
	int fd, err;

	if (copy_from_user(&take, user, sizeof(take)))
		return -EFAULT;
	take.failure = FF_NO_FAILURE;
	take.fd = -1;
	/* Before anything freezes: the fd, and whether we can answer at all. */
	if (copy_to_user(user, &take, sizeof(take)))
		return -EFAULT;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		err = fd;
		take.failure.reason = FF_REASON_NO_FD;
	} else if (!capable(CAP_SYS_ADMIN)) {
		err = -EPERM;
		take.failure.reason = FF_REASON_PERMISSION;
	} else {
		err = ff_take(&take, &file);
	}
	if (!err)
		take.fd = fd;
	if (copy_to_user(user, &take, sizeof(take)) && !err) {
		fput(file);
		err = -EFAULT;
	}
	if (!err)
		fd_install(fd, file);
	else if (fd >= 0)
		put_unused_fd(fd);
	return err;
}

static long ff_device_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	switch (command) {
	case FF_IOC_GET_INFO:
		return ff_get_info((void __user *)argument);
	case FF_IOC_TAKE:
		return ff_device_take((void __user *)argument);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations ff_device_ops = {
	.owner = THIS_MODULE,
	.open = ff_device_open,
	.unlocked_ioctl = ff_device_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice ff_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "freezeframe",
	.fops = &ff_device_ops,
	.mode = 0600,
};

int ff_device_init(void)
{
	return misc_register(&ff_device);
}

void ff_device_exit(void)
{
	misc_deregister(&ff_device);
}
