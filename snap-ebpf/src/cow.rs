//! The COW breaks of the targets. `do_wp_page` handles every write to a present, write-protected page: after arming
//! that is the first write to each armed page. It comes here too for pages that it may reuse, which costs nothing and is
//! not counted: only who copies has a new page, which gets its reverse mapping (the copying itself is inlined).

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{fentry, fexit, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use snap_common::hist::Histogram;

use crate::ring::{lost, now};

/// Thread group ids whose COW breaks are counted.
#[map]
static TARGETS: HashMap<u32, u8> = HashMap::with_max_entries(1024, 0);

/// Of a thread in `do_wp_page`: when it entered, and whether it has copied (1) or not (0).
#[map]
static COW_ENTERED: LruHashMap<u64, [u64; 2]> = LruHashMap::with_max_entries(8192, 0);

/// How long the COW breaks took.
#[map]
static COW_BREAKS: PerCpuArray<Histogram> = PerCpuArray::with_max_entries(1, 0);

/// Entry of `do_wp_page`.
#[fentry(function = "do_wp_page")]
pub fn do_wp_page_entry(_ctx: FEntryContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    // SAFETY: the value is not looked at.
    if unsafe { TARGETS.get(&tgid) }.is_some() && COW_ENTERED.insert(&id, &[now(), 0], 0).is_err() {
        lost();
    }
    0
}

/// Notes that the thread has copied, if it is in `do_wp_page`: new pages are made elsewhere, too.
fn copied() {
    if let Some(entry) = COW_ENTERED.get_ptr_mut(&bpf_get_current_pid_tgid()) {
        // SAFETY: nobody but this thread uses this entry.
        unsafe { (*entry)[1] = 1 };
    }
}

/// Entry of `folio_add_new_anon_rmap`, 6.8 and later.
#[fentry(function = "folio_add_new_anon_rmap")]
pub fn folio_add_new_anon_rmap_entry(_ctx: FEntryContext) -> i32 {
    copied();
    0
}

/// Entry of `page_add_new_anon_rmap`, before.
#[fentry(function = "page_add_new_anon_rmap")]
pub fn page_add_new_anon_rmap_entry(_ctx: FEntryContext) -> i32 {
    copied();
    0
}

/// Return of `do_wp_page`.
#[fexit(function = "do_wp_page")]
pub fn do_wp_page_exit(_ctx: FExitContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: nobody but this thread writes this entry.
    let Some([entered, copied]) = (unsafe { COW_ENTERED.get(&id) }).copied() else {
        return 0;
    };
    let took = now().saturating_sub(entered);
    if COW_ENTERED.remove(&id).is_err() {
        lost();
    }
    if copied == 0 {
        return 0;
    }
    let Some(histogram) = COW_BREAKS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own, and the map outlives the program.
    unsafe { &mut *histogram }.record(took);
    0
}
