// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "dm.h"

#include <linux/anon_inodes.h>
#include <linux/dm-ioctl.h>
#include <linux/file.h>
#include <linux/kdev_t.h>
#include <linux/major.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>

/* A call that is interrupted has done nothing; our thread gets no signals, but the freezer of a suspend wakes it. */
#define FF_DM_TRIES 100

static int ff_dm_mmap(struct file *file, struct vm_area_struct *vma)
{
	return remap_vmalloc_range(vma, file->private_data, 0);
}

static int ff_dm_release(struct inode *inode, struct file *file)
{
	vfree(file->private_data);
	return 0;
}

static const struct file_operations ff_dm_ops = {
	.owner = THIS_MODULE,
	.mmap = ff_dm_mmap,
	.release = ff_dm_release,
};

static bool ff_dm_is_control(struct file *file)
{
	struct inode *inode = file_inode(file);
	struct module *owner = file->f_op->owner;

	return S_ISCHR(inode->i_mode) && inode->i_rdev == MKDEV(MISC_MAJOR, MAPPER_CTRL_MINOR) &&
	       file->f_op->unlocked_ioctl && (!owner || !strcmp(owner->name, "dm_mod"));
}

int ff_dm_open(struct ff_dm *dm, int control, u32 devices)
{
	int err;

	dm->control = fget(control);
	if (!dm->control || !ff_dm_is_control(dm->control))
		return -EBADF;
	dm->bytes = devices * FF_DM_BYTES;
	dm->buffer = vmalloc_user(dm->bytes);
	if (!dm->buffer)
		return -ENOMEM;
	dm->file = anon_inode_getfile("[freezeframe-dm]", &ff_dm_ops, dm->buffer, O_RDWR);
	if (IS_ERR(dm->file)) {
		err = PTR_ERR(dm->file);
		dm->file = NULL;
		vfree(dm->buffer);
		return err;
	}
	dm->user = vm_mmap(dm->file, 0, dm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	if (!IS_ERR_VALUE(dm->user))
		return 0;
	err = (int)dm->user;
	dm->user = 0;
	return err;
}

void ff_dm_close(struct ff_dm *dm)
{
	if (dm->file)
		fput(dm->file);
	if (dm->control)
		fput(dm->control);
}

static void *ff_dm_buffer(struct ff_dm *dm, struct ff_switched *device)
{
	return dm->buffer + device->slot * FF_DM_BYTES;
}

/* What is in the buffer behind the header is kept. */
static int ff_dm_call(struct ff_dm *dm, unsigned int command, struct ff_switched *device, u32 flags, u32 targets)
{
	struct dm_ioctl *header = ff_dm_buffer(dm, device);
	unsigned long user = dm->user + device->slot * FF_DM_BYTES;
	long err = -EINTR;
	u32 try;

	for (try = 0; try < FF_DM_TRIES && (err == -EINTR || err == -ERESTARTSYS); try++) {
		memset(header, 0, sizeof(*header));
		header->version[0] = 4;
		header->data_size = FF_DM_BYTES;
		header->data_start = sizeof(*header);
		header->dev = device->user.dev;
		header->flags = flags;
		header->target_count = targets;
		err = dm->control->f_op->unlocked_ioctl(dm->control, command, user);
	}
	return err;
}

int ff_dm_load(struct ff_dm *dm, struct ff_switched *device)
{
	struct dm_target_spec *spec = ff_dm_buffer(dm, device) + sizeof(struct dm_ioctl);
	int err;

	device->user.load.begin_ns = ktime_get_ns();
	memset(spec, 0, sizeof(*spec));
	spec->length = device->user.sectors;
	strscpy(spec->target_type, "snapshot", sizeof(spec->target_type));
	memcpy(spec + 1, device->user.params, FF_PARAMS_BYTES);
	err = ff_dm_call(dm, DM_TABLE_LOAD, device, 0, 1);
	device->loaded = !err;
	device->user.load.end_ns = ktime_get_ns();
	return err;
}

int ff_dm_suspend(struct ff_dm *dm, struct ff_switched *device)
{
	int err;

	device->user.suspend.begin_ns = ktime_get_ns();
	err = ff_dm_call(dm, DM_DEV_SUSPEND, device, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG, 0);
	device->suspended = !err;
	device->user.suspend.end_ns = ktime_get_ns();
	return err;
}

/* Whose live table is a snapshot, whoever loaded that? */
static bool ff_dm_is_switched(struct ff_dm *dm, struct ff_switched *device)
{
	const struct dm_ioctl *header = ff_dm_buffer(dm, device);
	const struct dm_target_spec *spec = ff_dm_buffer(dm, device) + sizeof(*header);

	return !ff_dm_call(dm, DM_TABLE_STATUS, device, DM_STATUS_TABLE_FLAG, 0) && header->target_count == 1 &&
	       !(header->flags & DM_SUSPEND_FLAG) && !strcmp(spec->target_type, "snapshot");
}

int ff_dm_switch(struct ff_dm *dm, struct ff_switched *device)
{
	int err;

	device->user.swap.begin_ns = ktime_get_ns();
	err = ff_dm_call(dm, DM_DEV_SUSPEND, device, DM_SKIP_LOCKFS_FLAG, 0);
	/* A resume where no table is loaded is none of a switch, and no error to the device mapper either. */
	if (ff_dm_is_switched(dm, device)) {
		device->user.switched = 1;
		device->loaded = false;
		device->suspended = false;
		err = 0;
	} else if (!err) {
		device->suspended = false;
		err = -ENODATA;
	}
	device->user.swap.end_ns = ktime_get_ns();
	return err;
}

void ff_dm_undo(struct ff_dm *dm, struct ff_switched *device)
{
	if (device->user.switched)
		return;
	if (device->loaded && ff_dm_call(dm, DM_TABLE_CLEAR, device, 0, 0))
		pr_warn("freezeframe: cannot clear the table that was loaded for device %u:%u\n",
			FF_DM_NUMBERS(&device->user));
	device->loaded = false;
	if (device->suspended && ff_dm_call(dm, DM_DEV_SUSPEND, device, DM_SKIP_LOCKFS_FLAG, 0))
		pr_err("freezeframe: cannot resume device %u:%u; try `dmsetup resume`\n", FF_DM_NUMBERS(&device->user));
	device->suspended = false;
}
