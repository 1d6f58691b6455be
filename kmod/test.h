/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Fault injection, compiled in by FREEZEFRAME_TEST=1 only. Module parameters, writable at run time:
 *
 *   test_hold_phase, test_hold_ms  sleep at the start of that phase (-1: none), at most so long, and while both say so
 *   test_held                      where a take sleeps now (-1: none; read only)
 *   test_fail_phase                fail at the start of that phase (-1: none)
 *   test_no_arm                    hold the pages, but leave them writable
 *   test_no_freeze                 let the threads run
 *   test_no_freeze_fs              switch the devices of filesystems that go on writing
 *   test_no_readonly               freeze what has no freezing, but leave it writable
 *   test_no_gate                   let page faults wait for frozen filesystems with their locks held
 *   test_no_prefault               leave swapped pages for the stop
 *   test_no_in_use                 arm pages that are in use, too
 *   test_no_recheck                do not look in the stop for memory that has become unsuitable
 *   test_no_hook                   do not finalize before that happens: bits of FF_TEST_HOOK_*
 *   test_dwell_us                  wait between the notice of a change and the change, and twice as long in the stop
 *                                  between arming what is about to change, and holding it
 *   test_no_look                   hold a page although its entry has become writable
 *   test_copy                      copy what would be held after the stop
 *   test_no_memory                 find no memory after the stop
 *   test_state                     bits of FF_TEST_STATE_*: let go wrong what may with the state
 *   test_abi_version               speak of another protocol than we do (0: no)
 */
#ifndef FF_TEST_H
#define FF_TEST_H

#include <linux/types.h>

#include "freezeframe.h"

struct ff_snapshot;

#define FF_TEST_HOOK_FAULT 1u
#define FF_TEST_HOOK_NOTIFIER 2u
#define FF_TEST_HOOK_GUP 4u
#define FF_TEST_HOOK_MAPPING 8u /* of shared files, but for page faults */
#define FF_TEST_HOOK_FILE 16u	/* write() and truncation of shared files */
#define FF_TEST_HOOK_TRACK 32u	/* other pages in place of those that were there */
#define FF_TEST_HOOK_JOIN 64u	/* one mapping in place of two */

#define FF_TEST_STATE_ROOM 1u	/* there is more of it than there is room */
#define FF_TEST_STATE_BUSY 2u	/* every pipe is in use */
#define FF_TEST_STATE_MEMORY 4u /* no memory to resolve it */

/* To be held at as at a phase: in the rehearsal of the stop, which has hold of all files. */
#define FF_TEST_REHEARSAL ((enum ff_phase)FF_PHASE_COUNT)

#ifdef FREEZEFRAME_TEST
int ff_test_phase(struct ff_snapshot *snap, enum ff_phase phase);
bool ff_test_skips_arm(void);
bool ff_test_skips_freeze(void);
bool ff_test_skips_freeze_fs(void);
bool ff_test_skips_readonly(void);
bool ff_test_skips_gate(void);
bool ff_test_skips_prefault(void);
bool ff_test_sees_no_use(void);
bool ff_test_skips_recheck(void);
bool ff_test_skips_hook(u32 hook);
void ff_test_dwell(u32 times);
bool ff_test_may_write(void);
bool ff_test_copies(void);
bool ff_test_has_no_memory(void);
u32 ff_test_state(void);
u32 ff_test_abi_version(void);
#define FF_TEST_FEATURES FF_FEATURE_TEST
#else
static inline int ff_test_phase(struct ff_snapshot *snap, enum ff_phase phase)
{
	return 0;
}
static inline bool ff_test_skips_arm(void)
{
	return false;
}
static inline bool ff_test_skips_freeze(void)
{
	return false;
}
static inline bool ff_test_skips_freeze_fs(void)
{
	return false;
}
static inline bool ff_test_skips_readonly(void)
{
	return false;
}
static inline bool ff_test_skips_gate(void)
{
	return false;
}
static inline bool ff_test_skips_prefault(void)
{
	return false;
}
static inline bool ff_test_sees_no_use(void)
{
	return false;
}
static inline bool ff_test_skips_recheck(void)
{
	return false;
}
static inline bool ff_test_skips_hook(u32 hook)
{
	return false;
}
static inline void ff_test_dwell(u32 times)
{
}
static inline bool ff_test_may_write(void)
{
	return false;
}
static inline bool ff_test_copies(void)
{
	return false;
}
static inline bool ff_test_has_no_memory(void)
{
	return false;
}
static inline u32 ff_test_state(void)
{
	return 0;
}
static inline u32 ff_test_abi_version(void)
{
	return FF_ABI_VERSION;
}
#define FF_TEST_FEATURES 0
#endif

#endif
