//! The COW breaks of the targets. `do_wp_page` handles every write to a present, write-protected page: after arming
//! that is the first write to each armed page. Writes that may reuse their page (after a fork of the target's own)
//! pass here too and are counted with them.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{fentry, fexit, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use snap_common::hist::{BUCKETS, Histogram, bucket};

use crate::ring::{lost, now};

/// Thread group ids whose COW breaks are counted.
#[map]
static TARGETS: HashMap<u32, u8> = HashMap::with_max_entries(1024, 0);

/// When a thread entered `do_wp_page`.
#[map]
static COW_ENTERED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(8192, 0);

/// How long the COW breaks took.
#[map]
static COW_BREAKS: PerCpuArray<Histogram> = PerCpuArray::with_max_entries(1, 0);

/// Entry of `do_wp_page`.
#[fentry(function = "do_wp_page")]
pub fn do_wp_page_entry(_ctx: FEntryContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    // SAFETY: the value is not looked at.
    if unsafe { TARGETS.get(&tgid) }.is_some() && COW_ENTERED.insert(&id, &now(), 0).is_err() {
        lost();
    }
    0
}

/// Return of `do_wp_page`.
#[fexit(function = "do_wp_page")]
pub fn do_wp_page_exit(_ctx: FExitContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: nobody but this thread writes this entry.
    let Some(entered) = (unsafe { COW_ENTERED.get(&id) }).copied() else {
        return 0;
    };
    let took = now().saturating_sub(entered);
    if COW_ENTERED.remove(&id).is_err() {
        lost();
    }
    let Some(histogram) = COW_BREAKS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own, and the map outlives the program.
    let histogram = unsafe { &mut *histogram };
    let number = bucket(took);
    if number < BUCKETS {
        histogram.buckets[number] += 1;
    }
    histogram.sum_ns += took;
    0
}
