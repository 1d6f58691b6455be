//! The ring buffer of rare events, and the count of what it could not take.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_log_ebpf::warn;
use snap_common::trace::{Event, EventKind};

/// [`Event`]s on their way to the controller: room for 4,096.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Events, samples and timestamps that found no room, per CPU.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Counts something that is lost.
pub fn lost() {
    if let Some(count) = LOST.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own, and the map outlives the program.
        let count = unsafe { &mut *count };
        *count += 1;
        if *count == 1 {
            first_lost();
        }
    }
}

/// Says so once per CPU; the count tells the rest.
#[inline(never)]
fn first_lost() {
    warn!(
        (),
        "an event found no room and is lost; freezeframe_bpf_events_lost_total counts them from here on"
    );
}

/// Hands an event to the controller.
pub fn emit(event: Event) {
    match EVENTS.reserve::<Event>(0) {
        Some(mut slot) => {
            slot.write(event);
            slot.submit(0);
        }
        None => lost(),
    }
}

/// An event of now, about the current thread.
pub fn event(kind: EventKind, a: u64, b: u64) -> Event {
    let id = bpf_get_current_pid_tgid();
    Event {
        ns: now(),
        snapshot: 0,
        a,
        b,
        kind: kind as u32,
        pid: id as u32,
        tgid: (id >> 32) as u32,
        reserved: 0,
    }
}

/// `CLOCK_MONOTONIC`.
pub fn now() -> u64 {
    // SAFETY: has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
