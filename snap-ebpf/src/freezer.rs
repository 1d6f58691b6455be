//! The cgroup freezer: asked, and frozen.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use snap_common::trace::EventKind;

use crate::ring::{emit, event};

/// Somebody wrote 1 to `cgroup.freeze`.
#[raw_tracepoint(tracepoint = "cgroup_freeze")]
pub fn cgroup_freeze(_ctx: RawTracePointContext) -> i32 {
    emit(event(EventKind::CgroupFreeze, 1, 0));
    0
}

/// Somebody wrote 0 to `cgroup.freeze`.
#[raw_tracepoint(tracepoint = "cgroup_unfreeze")]
pub fn cgroup_unfreeze(_ctx: RawTracePointContext) -> i32 {
    emit(event(EventKind::CgroupFreeze, 0, 0));
    0
}

/// The last thread of a cgroup froze, or the first one thawed. Arguments: cgroup, path, value.
#[raw_tracepoint(tracepoint = "cgroup_notify_frozen")]
pub fn cgroup_notify_frozen(ctx: RawTracePointContext) -> i32 {
    let frozen: i32 = ctx.arg(2);
    emit(event(EventKind::CgroupNotifyFrozen, u64::from(frozen != 0), 0));
    0
}
