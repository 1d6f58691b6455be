//! What goes into the stores of snapshots: its probes are attached while somebody looks, and there is something to see.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuHashMap};
use snap_common::store::{Layout, StoreCounts};

use super::attach::{self, AttachState, Attached, Links, When};
use super::btf::Btf;
use super::{TraceError, take_map};

/// The module that is probed.
const MODULE: &str = "dm_snapshot";

/// The maps and the probes.
pub(super) struct Stores {
    layout: Array<MapData, Layout>,
    counts: PerCpuHashMap<MapData, u32, StoreCounts>,
    pending: HashMap<MapData, u64, [u64; 2]>,
    links: Links,
    /// How many look.
    users: usize,
}

impl Stores {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, TraceError> {
        Ok(Self {
            layout: take_map(ebpf, "STORE_LAYOUT")?,
            counts: take_map(ebpf, "STORE_COUNTS")?,
            pending: take_map(ebpf, "STORE_PENDING")?,
            links: Links::new(),
            users: 0,
        })
    }
}

impl super::Tracer {
    /// Counts what goes into stores from now on, until as many [`super::Tracer::unwatch_stores`]. Where the module that is
    /// probed is not loaded, it is loaded.
    ///
    /// # Errors
    ///
    /// When the kernel does not say where it keeps what is to be counted. A probe that cannot be attached is no error.
    pub fn watch_stores(&mut self) -> Result<(), TraceError> {
        self.stores.users += 1;
        if !self.stores.links.is_empty() {
            return Ok(());
        }
        if !Path::new("/sys/module").join(MODULE).exists() {
            // The outcome shows when the probes are attached.
            let _ = Command::new("modprobe").arg(MODULE).status();
        }
        match layout() {
            Ok(layout) => self
                .stores
                .layout
                .set(0, layout, 0)
                .map_err(failed("STORE_LAYOUT"))?,
            Err(why) => {
                attach::note_unavailable(&mut self.attached, When::StoresAreWatched, &why);
                return Err(TraceError::Layout(why));
            }
        }
        self.stores.links = attach::attach_while(&mut self.ebpf, &mut self.attached, When::StoresAreWatched);
        Ok(())
    }

    /// The other end of [`super::Tracer::watch_stores`]; with the last one the probes are detached.
    ///
    /// # Errors
    ///
    /// When a map does not let go.
    pub fn unwatch_stores(&mut self) -> Result<(), TraceError> {
        self.stores.users = self.stores.users.saturating_sub(1);
        if self.stores.users > 0 || self.stores.links.is_empty() {
            return Ok(());
        }
        self.stores.links.clear();
        attach::note_detached(&mut self.attached, When::StoresAreWatched);
        // What is under way now ends unseen.
        let left: Vec<_> = self.stores.pending.keys().filter_map(Result::ok).collect();
        for exception in left {
            ignore_missing(self.stores.pending.remove(&exception)).map_err(failed("STORE_PENDING"))?;
        }
        Ok(())
    }

    /// What was counted of each store so far, by its device's number as the kernel keeps it.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn store_counts(&self) -> Result<BTreeMap<u32, StoreCounts>, TraceError> {
        self.stores
            .counts
            .iter()
            .map(|entry| {
                let (store, cpus) = entry.map_err(failed("STORE_COUNTS"))?;
                let mut sum = StoreCounts::ZERO;
                cpus.iter().for_each(|cpu| sum.merge(cpu));
                Ok((store, sum))
            })
            .collect()
    }

    /// Counts a store no more; where it is written to again, it begins anew.
    ///
    /// # Errors
    ///
    /// When the map does not let go.
    pub fn forget_store(&mut self, store: u32) -> Result<(), TraceError> {
        ignore_missing(self.stores.counts.remove(&store)).map_err(failed("STORE_COUNTS"))
    }

    /// The probes that should see what goes into stores now, and do not; with the reasons.
    pub fn missing_stores(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attached
            .iter()
            .filter_map(|entry: &Attached| match &entry.state {
                AttachState::Unavailable(why) if When::of(&entry.program) == When::StoresAreWatched => {
                    Some((entry.program.as_str(), why.as_str()))
                }
                _ => None,
            })
    }
}

fn failed(map: &'static str) -> impl Fn(MapError) -> TraceError {
    move |source| TraceError::Map { map, source }
}

fn ignore_missing(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Where the running kernel keeps what the programs want; else which of it cannot be found.
fn layout() -> Result<Layout, String> {
    let kernel = Btf::of("vmlinux").map_err(|error| format!("no BTF of the kernel: {error}"))?;
    let module = Btf::of(MODULE).ok(); // there is none where it is no module
    let find = |structure: &str, field: &str| {
        module
            .as_ref()
            .and_then(|module| module.offset(Some(&kernel), structure, field))
            .or_else(|| kernel.offset(None, structure, field))
            .ok_or_else(|| {
                format!("BTF tells nothing of {structure}.{field} (CONFIG_DEBUG_INFO_BTF_MODULES)")
            })
    };
    Ok(Layout {
        pending_snap: find("dm_snap_pending_exception", "snap")?,
        snapshot_cow: find("dm_snapshot", "cow")?,
        device_bdev: find("dm_dev", "bdev")?,
        bdev_number: find("block_device", "bd_dev")?,
    })
}
