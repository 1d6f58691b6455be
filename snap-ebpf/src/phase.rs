//! The module's own tracepoints; their arguments are documented in `kmod/freezeframe.h`.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use snap_common::abi::EDGE_BEGIN;
use snap_common::trace::{Event, EventKind};

use crate::ring::emit;

/// `freezeframe_phase`: snapshot, phase, edge, ns, error.
#[raw_tracepoint(tracepoint = "freezeframe_phase")]
pub fn freezeframe_phase(ctx: RawTracePointContext) -> i32 {
    let edge: u32 = ctx.arg(2);
    let kind = if edge == EDGE_BEGIN {
        EventKind::PhaseBegin
    } else {
        EventKind::PhaseEnd
    };
    let phase: u32 = ctx.arg(1);
    emit(Event {
        ns: ctx.arg(3),
        snapshot: ctx.arg(0),
        a: u64::from(phase),
        b: ctx.arg(4),
        kind: kind as u32,
        pid: 0,
        tgid: 0,
        reserved: 0,
    });
    0
}

/// `freezeframe_task_still`: snapshot, pid, tgid, state, asked, still.
#[raw_tracepoint(tracepoint = "freezeframe_task_still")]
pub fn freezeframe_task_still(ctx: RawTracePointContext) -> i32 {
    let (asked, still): (u64, u64) = (ctx.arg(4), ctx.arg(5));
    let state: u32 = ctx.arg(3);
    emit(Event {
        ns: still,
        snapshot: ctx.arg(0),
        a: u64::from(state),
        b: still.saturating_sub(asked),
        kind: EventKind::TaskStill as u32,
        pid: ctx.arg(1),
        tgid: ctx.arg(2),
        reserved: 0,
    });
    0
}

/// `freezeframe_mm_armed`: snapshot, tgid, pages, copied, duration.
#[raw_tracepoint(tracepoint = "freezeframe_mm_armed")]
pub fn freezeframe_mm_armed(ctx: RawTracePointContext) -> i32 {
    let tgid: u32 = ctx.arg(1);
    emit(Event {
        ns: crate::ring::now(),
        snapshot: ctx.arg(0),
        a: ctx.arg(2),
        b: ctx.arg(4),
        kind: EventKind::MmArmed as u32,
        pid: tgid,
        tgid,
        reserved: 0,
    });
    0
}
