// SPDX-License-Identifier: GPL-2.0 OR MIT
#include "test.h"

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/sched/signal.h>

#include "snapshot.h"

static int test_hold_phase = -1;
module_param(test_hold_phase, int, 0600);
MODULE_PARM_DESC(test_hold_phase, "sleep at the start of this phase, for as long as this is set (-1: none)");

static uint test_hold_ms;
module_param(test_hold_ms, uint, 0600);
MODULE_PARM_DESC(test_hold_ms, "how long to sleep there at most, in milliseconds");

static int test_held = -1;
module_param(test_held, int, 0400);
MODULE_PARM_DESC(test_held, "the phase at whose start a take sleeps now (-1: none)");

static int test_fail_phase = -1;
module_param(test_fail_phase, int, 0600);
MODULE_PARM_DESC(test_fail_phase, "fail at the start of this phase (-1: none)");

static bool test_no_arm;
module_param(test_no_arm, bool, 0600);
MODULE_PARM_DESC(test_no_arm, "hold the pages, but leave them writable");

static bool test_no_freeze;
module_param(test_no_freeze, bool, 0600);
MODULE_PARM_DESC(test_no_freeze, "let the threads run");

static bool test_no_freeze_fs;
module_param(test_no_freeze_fs, bool, 0600);
MODULE_PARM_DESC(test_no_freeze_fs, "switch the devices of filesystems that go on writing");

static bool test_no_readonly;
module_param(test_no_readonly, bool, 0600);
MODULE_PARM_DESC(test_no_readonly, "freeze what has no freezing, but leave it writable");

static bool test_no_gate;
module_param(test_no_gate, bool, 0600);
MODULE_PARM_DESC(test_no_gate, "let page faults wait for frozen filesystems with their locks held");

static bool test_no_prefault;
module_param(test_no_prefault, bool, 0600);
MODULE_PARM_DESC(test_no_prefault, "leave swapped pages for the stop");

static bool test_no_in_use;
module_param(test_no_in_use, bool, 0600);
MODULE_PARM_DESC(test_no_in_use, "arm pages that are in use, too");

static bool test_no_recheck;
module_param(test_no_recheck, bool, 0600);
MODULE_PARM_DESC(test_no_recheck, "do not look in the stop for memory that has become unsuitable");

static uint test_no_hook;
module_param(test_no_hook, uint, 0600);
MODULE_PARM_DESC(test_no_hook, "do not finalize before this: 1 page faults, 2 notifications, 4 pages handed out, "
			       "8 mappings and 16 writes of shared files; do not see 32 that pages were replaced, "
			       "64 that mappings became one");

static uint test_dwell_us;
module_param(test_dwell_us, uint, 0600);
MODULE_PARM_DESC(test_dwell_us, "wait so long between the notice of a change and the change, and longer in the stop");

static bool test_no_look;
module_param(test_no_look, bool, 0600);
MODULE_PARM_DESC(test_no_look, "hold a page although its entry has become writable");

static bool test_copy;
module_param(test_copy, bool, 0600);
MODULE_PARM_DESC(test_copy, "copy what would be held after the stop");

static bool test_no_memory;
module_param(test_no_memory, bool, 0600);
MODULE_PARM_DESC(test_no_memory, "find no memory after the stop");

static uint test_state;
module_param(test_state, uint, 0600);
MODULE_PARM_DESC(test_state,
		 "of the state: 1 there is more than room, 2 every pipe is in use, 4 no memory to resolve it");

static uint test_abi_version;
module_param(test_abi_version, uint, 0600);
MODULE_PARM_DESC(test_abi_version, "the ABI version to pretend (0: the true one)");

static void ff_test_hold(int phase)
{
	unsigned long until = jiffies + msecs_to_jiffies(READ_ONCE(test_hold_ms));

	WRITE_ONCE(test_held, phase);
	while (READ_ONCE(test_hold_phase) == phase && time_before(jiffies, until) && !fatal_signal_pending(current))
		schedule_timeout_killable(1);
	WRITE_ONCE(test_held, -1);
}

int ff_test_phase(struct ff_snapshot *snap, enum ff_phase phase)
{
	if (READ_ONCE(test_hold_phase) == (int)phase)
		ff_test_hold(phase);
	if (READ_ONCE(test_fail_phase) == (int)phase)
		return ff_fail(snap, -EIO, FF_REASON_INJECTED, -1, phase);
	return 0;
}

bool ff_test_skips_arm(void)
{
	return READ_ONCE(test_no_arm);
}

bool ff_test_skips_freeze(void)
{
	return READ_ONCE(test_no_freeze);
}

bool ff_test_skips_freeze_fs(void)
{
	return READ_ONCE(test_no_freeze_fs);
}

bool ff_test_skips_readonly(void)
{
	return READ_ONCE(test_no_readonly);
}

bool ff_test_skips_gate(void)
{
	return READ_ONCE(test_no_gate);
}

bool ff_test_skips_prefault(void)
{
	return READ_ONCE(test_no_prefault);
}

bool ff_test_sees_no_use(void)
{
	return READ_ONCE(test_no_in_use);
}

bool ff_test_skips_recheck(void)
{
	return READ_ONCE(test_no_recheck);
}

bool ff_test_skips_hook(u32 hook)
{
	return READ_ONCE(test_no_hook) & hook;
}

void ff_test_dwell(u32 times)
{
	for (; times; times--)
		udelay(min(READ_ONCE(test_dwell_us), 5000u));
}

bool ff_test_may_write(void)
{
	return READ_ONCE(test_no_look) || READ_ONCE(test_no_arm);
}

bool ff_test_copies(void)
{
	return READ_ONCE(test_copy);
}

bool ff_test_has_no_memory(void)
{
	return READ_ONCE(test_no_memory);
}

u32 ff_test_state(void)
{
	return READ_ONCE(test_state);
}

u32 ff_test_abi_version(void)
{
	return READ_ONCE(test_abi_version) ?: FF_ABI_VERSION;
}
