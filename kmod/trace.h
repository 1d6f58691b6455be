/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM freezeframe

#if !defined(FF_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define FF_TRACE_H

#include <linux/tracepoint.h>

/* TRACE_EVENT has a form of its own. */
/* clang-format off */
TRACE_EVENT(freezeframe_phase,
	TP_PROTO(u64 snapshot, u32 phase, u32 edge, u64 ns, s64 error),
	TP_ARGS(snapshot, phase, edge, ns, error),
	TP_STRUCT__entry(
		__field(u64, snapshot)
		__field(u32, phase)
		__field(u32, edge)
		__field(u64, ns)
		__field(s64, error)
	),
	TP_fast_assign(
		__entry->snapshot = snapshot;
		__entry->phase = phase;
		__entry->edge = edge;
		__entry->ns = ns;
		__entry->error = error;
	),
	TP_printk("snapshot=%llu phase=%u edge=%u ns=%llu error=%lld", __entry->snapshot, __entry->phase,
		  __entry->edge, __entry->ns, __entry->error)
);

TRACE_EVENT(freezeframe_task_still,
	TP_PROTO(u64 snapshot, u32 pid, u32 tgid, u32 state, u64 asked_ns, u64 still_ns),
	TP_ARGS(snapshot, pid, tgid, state, asked_ns, still_ns),
	TP_STRUCT__entry(
		__field(u64, snapshot)
		__field(u32, pid)
		__field(u32, tgid)
		__field(u32, state)
		__field(u64, asked_ns)
		__field(u64, still_ns)
	),
	TP_fast_assign(
		__entry->snapshot = snapshot;
		__entry->pid = pid;
		__entry->tgid = tgid;
		__entry->state = state;
		__entry->asked_ns = asked_ns;
		__entry->still_ns = still_ns;
	),
	TP_printk("snapshot=%llu pid=%u tgid=%u state=%u asked_ns=%llu still_ns=%llu", __entry->snapshot,
		  __entry->pid, __entry->tgid, __entry->state, __entry->asked_ns, __entry->still_ns)
);

TRACE_EVENT(freezeframe_mm_armed,
	TP_PROTO(u64 snapshot, u32 tgid, u64 pages, u64 copied, u64 duration_ns),
	TP_ARGS(snapshot, tgid, pages, copied, duration_ns),
	TP_STRUCT__entry(
		__field(u64, snapshot)
		__field(u32, tgid)
		__field(u64, pages)
		__field(u64, copied)
		__field(u64, duration_ns)
	),
	TP_fast_assign(
		__entry->snapshot = snapshot;
		__entry->tgid = tgid;
		__entry->pages = pages;
		__entry->copied = copied;
		__entry->duration_ns = duration_ns;
	),
	TP_printk("snapshot=%llu tgid=%u pages=%llu copied=%llu duration_ns=%llu", __entry->snapshot,
		  __entry->tgid, __entry->pages, __entry->copied, __entry->duration_ns)
);

/* clang-format on */
#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
