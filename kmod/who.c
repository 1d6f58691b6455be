// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "who.h"

#include <linux/cgroup.h>
#include <linux/fs_struct.h>
#include <linux/ipc_namespace.h>
#include <linux/nsproxy.h>
#include <linux/pid_namespace.h>
#include <linux/sched/task.h>
#include <linux/time_namespace.h>
#include <linux/user_namespace.h>
#include <linux/utsname.h>
#include <net/net_namespace.h>

#include "compat.h"

static void ff_who_note_path(struct path *held, struct path *old, const struct path *now)
{
	if (path_equal(held, now))
		return;
	*old = *held;
	*held = *now;
	path_get(held);
}

static void ff_who_note_fs(struct task_struct *task, struct ff_who *who, struct ff_image_process *image)
{
	struct fs_struct *fs;

	task_lock(task);
	fs = task->fs;
	if (fs) {
		spin_lock(&fs->lock);
		ff_who_note_path(&who->cwd, &who->old_cwd, &fs->pwd);
		ff_who_note_path(&who->root, &who->old_root, &fs->root);
		image->umask = fs->umask;
		spin_unlock(&fs->lock);
	} else {
		image->flags |= FF_PROCESS_PARTIAL;
	}
	who->fs = fs;
	task_unlock(task);
}

static void ff_who_note_namespaces(struct task_struct *task, const struct cred *cred, u32 *inodes)
{
	struct nsproxy *proxy;

	memset(inodes, 0, FF_NS_COUNT * sizeof(*inodes));
	inodes[FF_NS_USER] = cred->user_ns->ns.inum;
	rcu_read_lock();
	if (task_active_pid_ns(task))
		inodes[FF_NS_PID] = task_active_pid_ns(task)->ns.inum;
	rcu_read_unlock();
	task_lock(task);
	proxy = task->nsproxy;
	if (proxy) {
#ifdef CONFIG_CGROUPS
		inodes[FF_NS_CGROUP] = proxy->cgroup_ns->ns.inum;
#endif
#ifdef CONFIG_IPC_NS
		inodes[FF_NS_IPC] = proxy->ipc_ns->ns.inum;
#endif
		inodes[FF_NS_MNT] = ff_mnt_ns_inode(proxy->mnt_ns);
		inodes[FF_NS_NET] = proxy->net_ns->ns.inum;
		inodes[FF_NS_PID_FOR_CHILDREN] = proxy->pid_ns_for_children->ns.inum;
#ifdef CONFIG_TIME_NS
		inodes[FF_NS_TIME] = proxy->time_ns->ns.inum;
		inodes[FF_NS_TIME_FOR_CHILDREN] = proxy->time_ns_for_children->ns.inum;
#endif
		inodes[FF_NS_UTS] = proxy->uts_ns->ns.inum;
	}
	task_unlock(task);
}

static struct cgroup *ff_who_note_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup;

	rcu_read_lock();
	cgroup = task_dfl_cgroup(task);
	if (!cgroup_tryget(cgroup))
		cgroup = NULL;
	rcu_read_unlock();
	return cgroup;
}

void ff_who_note(struct task_struct *task, struct ff_who *who, struct ff_image_process *image)
{
	who->cred = get_task_cred(task);
	who->cgroup = ff_who_note_cgroup(task);
	ff_who_note_fs(task, who, image);
	ff_who_note_namespaces(task, who->cred, image->namespaces);
#ifdef CONFIG_KEYS
	if (who->cred->process_keyring || who->cred->thread_keyring)
		image->flags |= FF_PROCESS_KEYRINGS;
#endif
}

const struct cred *ff_who_note_other(struct task_struct *task, const struct cred *common)
{
	return rcu_access_pointer(task->real_cred) == common ? NULL : get_task_cred(task);
}

int ff_who_add_credentials(struct ff_bytes *bytes, const struct cred *cred, struct ff_blob *blob)
{
	struct user_namespace *users = current_user_ns();
	struct ff_image_credentials *image;
	int index, count = cred->group_info->ngroups;
	u32 *groups;

	image = ff_bytes_room(bytes, sizeof(*image) + count * sizeof(*groups), blob);
	if (!image)
		return -ENOMEM;
	groups = (u32 *)(image + 1);
	*image = (struct ff_image_credentials){
		.uid = { from_kuid_munged(users, cred->uid), from_kuid_munged(users, cred->euid),
			 from_kuid_munged(users, cred->suid), from_kuid_munged(users, cred->fsuid) },
		.gid = { from_kgid_munged(users, cred->gid), from_kgid_munged(users, cred->egid),
			 from_kgid_munged(users, cred->sgid), from_kgid_munged(users, cred->fsgid) },
		.inheritable = ff_cap_bits(cred->cap_inheritable),
		.permitted = ff_cap_bits(cred->cap_permitted),
		.effective = ff_cap_bits(cred->cap_effective),
		.bounding = ff_cap_bits(cred->cap_bset),
		.ambient = ff_cap_bits(cred->cap_ambient),
		.securebits = cred->securebits,
		.group_count = count,
	};
	for (index = 0; index < count; index++)
		groups[index] = from_kgid_munged(users, cred->group_info->gid[index]);
	return 0;
}

static int ff_who_add_cgroup(struct ff_bytes *bytes, struct cgroup *cgroup, char *scratch, struct ff_blob *blob)
{
	if (!cgroup || cgroup_path_ns(cgroup, scratch, PATH_MAX, current->nsproxy->cgroup_ns) < 0)
		return 0;
	return ff_bytes_add(bytes, scratch, strnlen(scratch, PATH_MAX), blob);
}

int ff_who_add(struct ff_bytes *bytes, const struct ff_who *who, char *scratch, struct ff_image_process *image)
{
	int err = 0;

	if (who->cwd.dentry)
		err = ff_bytes_add_path(bytes, &who->cwd, scratch, &image->cwd);
	if (!err && who->root.dentry)
		err = ff_bytes_add_path(bytes, &who->root, scratch, &image->root);
	if (!err)
		err = ff_who_add_cgroup(bytes, who->cgroup, scratch, &image->cgroup);
	if (!err && who->cred)
		err = ff_who_add_credentials(bytes, who->cred, &image->credentials);
	return err;
}

void ff_who_forget(struct ff_who *who)
{
	if (who->cred)
		put_cred(who->cred);
	who->cred = NULL;
	if (who->cgroup)
		cgroup_put(who->cgroup);
	who->cgroup = NULL;
	who->fs = NULL;
}

void ff_who_drop(struct ff_who *who)
{
	ff_who_forget(who);
	/* Of nothing, it does nothing. */
	path_put(&who->cwd);
	path_put(&who->root);
	path_put(&who->old_cwd);
	path_put(&who->old_root);
	memset(who, 0, sizeof(*who));
}
