// SPDX-License-Identifier: GPL-2.0 OR MIT
#include <linux/module.h>
#include <asm/cpufeature.h>

#include "device.h"
#include "hook.h"
#include "regs.h"
#include "scan.h"
#include "take.h"
#include "track.h"

static int __init ff_init(void)
{
	int err;

	if (boot_cpu_has(X86_FEATURE_XENPV)) {
		pr_err("freezeframe: this is a Xen PV guest, whose page tables belong to the hypervisor; use PVH or "
		       "HVM\n");
		return -EOPNOTSUPP;
	}
	err = ff_scan_module_init();
	if (err)
		return err;
	ff_take_module_init();
	ff_regs_module_init();
	ff_hook_module_init();
	err = ff_device_init();
	if (err)
		goto err_hook;
	return 0;

err_hook:
	ff_hook_module_exit();
	ff_scan_module_exit();
	return err;
}

static void __exit ff_exit(void)
{
	ff_device_exit();
	ff_hook_module_exit();
	ff_scan_module_exit();
	ff_track_module_exit();
}

module_init(ff_init);
module_exit(ff_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION("0.1.0");
MODULE_DESCRIPTION("Snapshots of running processes: memory and registers at one instant");
