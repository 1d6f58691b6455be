//! The disk's half of one take: chosen and set up before the module's call, settled after it.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::Context as _;
use snap_common::abi;

use crate::device::DiskCall;
use crate::disk::arm::{Armed, Taken};
use crate::disk::ask::{Filesystems, Wish};
use crate::disk::choose::{self, Chosen, choose};
use crate::disk::dm::Dm;
use crate::disk::plan;
use crate::disk::record::AtShutdown;
use crate::disk::store::Store;
use crate::report::bytes;
use crate::report::disk::{DeviceReport, DiskReport, FsReport};

/// The disk's half of a take.
#[derive(Debug)]
pub struct Half {
    chosen: Vec<Chosen>,
    armed: Option<Armed>,
}

impl Half {
    /// Finds out what will freeze and what will be switched, and sets the store up. `None`: the take is of processes alone.
    ///
    /// # Errors
    ///
    /// When a filesystem or device is not fit for it, or the store cannot be used; nothing is changed then.
    pub fn prepare(wish: &Wish, pids: &[i32], output: Option<&File>) -> anyhow::Result<Option<Self>> {
        if wish.filesystems == Filesystems::None {
            anyhow::ensure!(
                wish.store.is_none(),
                "--snapblockdev without filesystems does nothing; name some with --fs"
            );
            return Ok(None);
        }
        let chosen = choose(&wish.filesystems, pids)?;
        if wish.store.is_some() && wish.at_shutdown == AtShutdown::Discard {
            choose::refuse_output(&chosen, output)?;
        }
        let armed = match &wish.store {
            Some(store) => Some(arm(wish, store, &chosen, pids)?),
            None => None,
        };
        Ok(Some(Self { chosen, armed }))
    }

    /// The module's arguments.
    ///
    /// # Errors
    ///
    /// When the devices on the store are gone.
    pub fn call(&self) -> anyhow::Result<DiskCall> {
        let switches = self.armed.as_ref().map(Armed::switches).transpose()?;
        let control = self.armed.as_ref().map(|armed| armed.dm().control().as_raw_fd());
        Ok(DiskCall {
            filesystems: self.chosen.iter().map(filesystem).collect(),
            filesystem_names: self.chosen.iter().map(name).collect(),
            switches: switches.unwrap_or_default(),
            switch_names: self.tops().map(|top| top.name.clone()).collect(),
            control: control.unwrap_or(-1),
        })
    }

    fn tops(&self) -> impl Iterator<Item = &plan::Top> {
        self.armed.iter().flat_map(Armed::tops)
    }

    /// The module has taken it: the disk is switched.
    ///
    /// # Errors
    ///
    /// When the store does not take its record.
    pub fn activate(
        mut self,
        call: &DiskCall,
        take: &abi::Take,
        instant_unix_ns: u64,
    ) -> anyhow::Result<Active> {
        let report = self.report(call, take);
        let snapshot = match &mut self.armed {
            Some(armed) => Some(armed.activate(instant_unix_ns).with_context(|| {
                format!(
                    "the disk is switched to the snapshot {id}, but its store cannot note that; merge it back with `freezeframe \
                     commit {id}`",
                    id = armed.id()
                )
            })?),
            None => None,
        };
        Ok(Active { snapshot, report })
    }

    /// The take failed. What was switched before is merged back, for the machine has been writing to the store since.
    ///
    /// # Errors
    ///
    /// When that does not succeed.
    pub fn give_up(mut self, call: &DiskCall) -> anyhow::Result<()> {
        let Some(armed) = &mut self.armed else {
            return Ok(());
        };
        if call.switches.iter().all(|switch| switch.switched == 0) {
            return Ok(()); // dropped, and with it all that was set up
        }
        let snapshot = armed.activate(0)?;
        drop(self); // and with it the lock of the store
        snapshot.merge_back()
    }

    fn report(&self, call: &DiskCall, take: &abi::Take) -> DiskReport {
        let filesystems = self.chosen.iter().zip(&call.filesystems);
        let slices = self.armed.iter().flat_map(Armed::slices);
        let devices = self.tops().zip(&call.switches).zip(slices);
        DiskReport {
            id: self.armed.as_ref().map(|armed| armed.id().to_owned()),
            write_window_ns: take.write_window_ns,
            filesystems: filesystems
                .map(|(chosen, raw)| {
                    FsReport::new(
                        &chosen.mount.point.display().to_string(),
                        &chosen.mount.kind,
                        &chosen.mount.source,
                        raw,
                    )
                })
                .collect(),
            devices: devices
                .map(|((top, raw), slice)| {
                    DeviceReport::new(
                        &top.name,
                        raw,
                        slice.extents.iter().map(|extent| extent.sectors * 512).sum(),
                        slice.overflows_after.map(|sectors| sectors * 512),
                    )
                })
                .collect(),
        }
    }
}

/// A disk's half that is taken, while the rest of the take goes on.
#[derive(Debug)]
pub struct Active {
    snapshot: Option<Taken>,
    report: DiskReport,
}

impl Active {
    /// All of the take succeeded: the snapshot stays.
    ///
    /// # Errors
    ///
    /// When the store does not take its record.
    pub fn finish(self) -> anyhow::Result<DiskReport> {
        if let Some(snapshot) = self.snapshot {
            snapshot.keep()?;
        }
        Ok(self.report)
    }

    /// What is reported.
    #[must_use]
    pub fn report(&self) -> &DiskReport {
        &self.report
    }

    /// The rest of the take failed: nothing is to be left of it.
    ///
    /// # Errors
    ///
    /// When it cannot be merged back.
    pub fn give_up(self) -> anyhow::Result<()> {
        match self.snapshot {
            Some(snapshot) => snapshot.merge_back(),
            None => Ok(()),
        }
    }
}

fn arm(wish: &Wish, store: &Path, chosen: &[Chosen], pids: &[i32]) -> anyhow::Result<Armed> {
    let dm = Dm::open()?;
    let tops = plan::tops(chosen, store, &dm)?;
    let armed = Armed::new(dm, Store::format(store)?, chosen, tops, wish, pids)?;
    for (top, slice) in armed.tops().iter().zip(armed.slices()) {
        if let Some(sectors) = slice.overflows_after {
            eprintln!(
                "freezeframe: the store of {} has room for {} of changes ({} would be enough for all of it); watch it with `freezeframe ls`",
                top.name,
                bytes(sectors * 512),
                bytes(top.sectors * 512)
            );
        }
    }
    Ok(armed)
}

fn filesystem(chosen: &Chosen) -> abi::Fs {
    // SAFETY: `struct ff_fs` is made of integers alone; all zeros is a valid one.
    let mut raw: abi::Fs = unsafe { std::mem::zeroed() };
    raw.fd = chosen.fd.as_fd().as_raw_fd();
    raw
}

fn name(chosen: &Chosen) -> String {
    format!(
        "{} ({} on {})",
        chosen.mount.point.display(),
        chosen.mount.kind,
        chosen.mount.source
    )
}
