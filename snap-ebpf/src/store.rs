//! The copy-on-write of dm-snapshot: the first write to a chunk makes an *exception*. Where it fills the chunk, it goes to the
//! store as it is; else the origin's chunk is copied to the store first. Both ends alike: `copy_callback` when the data is
//! there, `pending_complete` when the metadata is, too, and the writer goes on.
//!
//! These are functions of the modules `dm_snapshot` and `dm_mod`, which only kprobes reach.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{kprobe, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::ProbeContext;
use snap_common::store::{Layout, STORES, StoreCounts};

use crate::ring::{lost, now};

/// `BPF_NOEXIST`: make, but do not overwrite.
const NOEXIST: u64 = 1;

/// Where the kernel keeps the device of a store.
#[map]
static STORE_LAYOUT: Array<Layout> = Array::with_max_entries(1, 0);

/// By the number of the store's device (`dev_t`), made when it is first written to. The controller keeps what it knows, and throws
/// the others away.
#[map]
static STORE_COUNTS: PerCpuHashMap<u32, StoreCounts> = PerCpuHashMap::with_max_entries(STORES, 0);

/// What an entry begins with: too large for the stack.
#[map]
static STORE_ZERO: PerCpuArray<StoreCounts> = PerCpuArray::with_max_entries(1, 0);

/// What is under way, by the address of its `dm_snap_pending_exception`. dm-snapshot itself lets 2,048 be under way per device
/// (`DEFAULT_COW_THRESHOLD`).
#[map]
static STORE_PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(16384, 0);

/// An exception under way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Pending {
    began: u64,
    store: u32,
    way: u32,
}

/// The chunk is filled by who writes it.
const WRITTEN: u32 = 0;
/// The chunk is copied.
const COPIED: u32 = 1;

/// Where a chunk is copied. Argument: the exception.
#[kprobe]
pub fn start_copy_entry(ctx: ProbeContext) -> u32 {
    if let Some(exception) = ctx.arg(0) {
        began(exception, COPIED);
    }
    0
}

/// Where a write goes to the store as it is: dm-snapshot alone calls this. Arguments: the client, the callback, the exception.
#[kprobe]
pub fn dm_kcopyd_prepare_callback_entry(ctx: ProbeContext) -> u32 {
    if let Some(exception) = ctx.arg(2) {
        began(exception, WRITTEN);
    }
    0
}

/// The data is in the store. Arguments: errors of reading and of writing, the exception.
#[kprobe]
pub fn copy_callback_entry(ctx: ProbeContext) -> u32 {
    let Some(exception) = ctx.arg::<u64>(2) else {
        return 0;
    };
    // SAFETY: an exception has one owner at a time, who called us.
    if let Some(pending) = unsafe { STORE_PENDING.get(&exception) }.copied()
        && pending.way == COPIED
        && let Some(counts) = counts(pending.store)
    {
        counts.copying.record(now().saturating_sub(pending.began));
    }
    0
}

/// The exception is in the store's metadata, or has failed. Argument: the exception.
#[kprobe]
pub fn pending_complete_entry(ctx: ProbeContext) -> u32 {
    let Some(exception) = ctx.arg::<u64>(0) else {
        return 0;
    };
    // SAFETY: an exception has one owner at a time, who called us.
    let Some(pending) = (unsafe { STORE_PENDING.get(&exception) }).copied() else {
        return 0; // begun before we were attached
    };
    if STORE_PENDING.remove(&exception).is_err() {
        lost();
    }
    if let Some(counts) = counts(pending.store) {
        counts.whole.record(now().saturating_sub(pending.began));
    }
    0
}

fn began(exception: u64, way: u32) {
    let Some(store) = STORE_LAYOUT.get(0).and_then(|layout| store_of(exception, layout)) else {
        lost();
        return;
    };
    let Some(counts) = counts(store) else {
        lost();
        return;
    };
    counts.exceptions += 1;
    if way == COPIED {
        counts.copies += 1;
    }
    let pending = Pending {
        began: now(),
        store,
        way,
    };
    if STORE_PENDING.insert(&exception, &pending, 0).is_err() {
        lost();
    }
}

/// The number of the store's device.
fn store_of(exception: u64, layout: &Layout) -> Option<u32> {
    if layout.pending_snap == 0 {
        return None;
    }
    let snapshot = read::<u64>(exception, layout.pending_snap)?;
    let device = read::<u64>(snapshot, layout.snapshot_cow)?;
    let bdev = read::<u64>(device, layout.device_bdev)?;
    read(bdev, layout.bdev_number)
}

fn read<T>(address: u64, offset: u32) -> Option<T> {
    let from = (address + u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address, and fails where nothing can be read.
    unsafe { bpf_probe_read_kernel(from) }.ok()
}

/// The counts of a store, which are made where there are none.
fn counts(store: u32) -> Option<&'static mut StoreCounts> {
    let counts = match STORE_COUNTS.get_ptr_mut(&store) {
        Some(counts) => counts,
        None => {
            let zero = STORE_ZERO.get(0)?;
            // Another CPU may be first, and the map may be full: the second look tells.
            let _ = STORE_COUNTS.insert(&store, zero, NOEXIST);
            STORE_COUNTS.get_ptr_mut(&store)?
        }
    };
    // SAFETY: the element is this CPU's own; preemption is off in a kprobe, and what interrupts us probes nothing of this.
    Some(unsafe { &mut *counts })
}
