//! The disk's half of one take: chosen and set up before the module's call, settled after it.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use anyhow::Context as _;
use snap_common::abi;

use crate::device::DiskCall;
use crate::disk::arm::{Armed, Taken};
use crate::disk::ask::Wish;
use crate::disk::choose::{self, Chosen, Hold, choose};
use crate::disk::dm::Dm;
use crate::disk::mounts::Mount;
use crate::disk::openfiles::{self, OpenFile};
use crate::disk::plan;
use crate::disk::record::AtShutdown;
use crate::disk::store::Store;
use crate::disk::union::{self, Union};
use crate::report::bytes;
use crate::report::disk::{DeviceReport, DiskReport, FsReport, ReadOnlyReport, UnionReport};
use crate::words::causes;

/// The disk's half of a take.
#[derive(Debug)]
pub struct Half {
    chosen: Vec<Chosen>,
    /// Who had files open for writing on each of those, where they lose that.
    writers: Vec<Vec<OpenFile>>,
    armed: Option<Armed>,
    union: Option<union::take::Prepared>,
}

impl Half {
    /// Finds out what will freeze and what will be switched, and sets the store up. `None`: the take is of processes alone.
    ///
    /// # Errors
    ///
    /// When a filesystem or device is not fit for it, or the store cannot be used; nothing is changed then.
    pub fn prepare(wish: &Wish, pids: &[i32], output: Option<&File>) -> anyhow::Result<Option<Self>> {
        if wish.filesystems.is_none() {
            anyhow::ensure!(
                wish.store.is_none(),
                "--snapblockdev without filesystems does nothing; name some with --fs"
            );
            if wish.unions.is_empty() {
                return Ok(None);
            }
        }
        let lowers = union::take::choose(&wish.unions)?;
        let mut chosen = choose(&wish.filesystems, wish.unfreezable, pids)?;
        chosen.retain(|chosen| {
            // A union is read-only before anything freezes.
            let of_union = |lower: &Mount| lower.devno == chosen.mount.devno;
            !lowers.iter().any(of_union)
        });
        if wish.store.is_some() && wish.at_shutdown == AtShutdown::Discard {
            choose::refuse::output_on(&chosen, output)?;
        }
        choose::refuse::too_many(&chosen, lowers.len())?;
        let armed = match &wish.store {
            Some(store) => Some(arm(wish, store, &chosen, pids)?),
            None => None,
        };
        let writers = chosen.iter().map(|chosen| match chosen.hold {
            Hold::Freeze => Vec::new(),
            Hold::ReadOnly => openfiles::writers(chosen.mount.devno),
        });
        Ok(Some(Self {
            writers: writers.collect(),
            chosen,
            armed,
            // Last, for from then on nobody writes there.
            union: match lowers.is_empty() {
                true => None,
                false => Some(union::take::Prepared::new(lowers, pids)?),
            },
        }))
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
            filesystems: self.filesystems().map(|(_, raw)| raw).collect(),
            filesystem_names: self.filesystems().map(|(mount, _)| name(mount)).collect(),
            switches: switches.unwrap_or_default(),
            switch_names: self.tops().map(|top| top.name.clone()).collect(),
            control: control.unwrap_or(-1),
        })
    }

    /// Those that freeze with the processes. Those of the union are read-only by then, and freezing keeps them so.
    fn filesystems(&self) -> impl Iterator<Item = (&Mount, abi::Fs)> {
        let chosen = self.chosen.iter().map(|chosen| {
            let together = if chosen.together { abi::FS_TOGETHER } else { 0 };
            (
                &chosen.mount,
                filesystem(chosen.fd.as_fd(), chosen.hold, together),
            )
        });
        let lowers = self.union.iter().flat_map(union::take::Prepared::filesystems);
        chosen.chain(lowers.map(|(mount, fd)| (mount, filesystem(fd.as_fd(), choose::hold_of(mount), 0))))
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
        let mut report = self.report(call, take);
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
        let mut active = Active {
            snapshot,
            union: None,
            report: DiskReport::default(),
        };
        if let Some(prepared) = self.union.take() {
            drop(self); // and with it the lock of the store
            match prepared.attach(instant_unix_ns) {
                Ok(union) => {
                    report.unions = unions(&union);
                    active.union = Some(Unsettled(Some(union)));
                }
                Err(error) => {
                    if let Err(merge) = active.give_up() {
                        tell!("{}", causes(&merge));
                    }
                    return Err(error.into());
                }
            }
        }
        active.report = report;
        Ok(active)
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
        let filesystems = self.chosen.iter().zip(&call.filesystems).zip(&self.writers);
        let slices = self.armed.iter().flat_map(Armed::slices);
        let devices = self.tops().zip(&call.switches).zip(slices);
        DiskReport {
            id: self.armed.as_ref().map(|armed| armed.id().to_owned()),
            write_window_ns: take.write_window_ns,
            filesystems: filesystems
                .map(|((chosen, raw), writers)| FsReport {
                    read_only: (chosen.hold == Hold::ReadOnly).then(|| ReadOnlyReport::new(raw, writers)),
                    ..FsReport::new(
                        &chosen.mount.point.display().to_string(),
                        &chosen.mount.kind,
                        &chosen.mount.source,
                        raw,
                    )
                })
                .collect(),
            unions: Vec::new(),
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

/// A disk's half that is taken, while the rest of the take goes on. When it is dropped before that is over, nothing is left of it.
#[derive(Debug)]
pub struct Active {
    // In the order in which they go: merging back may take a while.
    union: Option<Unsettled>,
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
        if let Some(union) = self.union {
            union.keep();
        }
        Ok(self.report)
    }

    /// The rest of the take failed: nothing is to be left of it.
    ///
    /// # Errors
    ///
    /// When it cannot be merged back.
    pub fn give_up(self) -> anyhow::Result<()> {
        drop(self.union);
        match self.snapshot {
            Some(snapshot) => snapshot.merge_back(),
            None => Ok(()),
        }
    }
}

/// A union whose take is not over. When it is dropped, it is given up.
#[derive(Debug)]
struct Unsettled(Option<Union>);

impl Unsettled {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(union) = &self.0 {
            union::life::give_up(union);
        }
    }
}

fn arm(wish: &Wish, store: &Path, chosen: &[Chosen], pids: &[i32]) -> anyhow::Result<Armed> {
    let dm = Dm::open()?;
    let tops = plan::tops(chosen, store, &dm)?;
    let armed = Armed::new(dm, Store::format(store)?, chosen, tops, wish, pids)?;
    for (top, slice) in armed.tops().iter().zip(armed.slices()) {
        if let Some(sectors) = slice.overflows_after {
            tell!(
                "the store of {} has room for {} of changes ({} would be enough for all of it); watch it with `freezeframe ls`",
                top.name,
                bytes(sectors * 512),
                bytes(top.sectors * 512)
            );
        }
    }
    Ok(armed)
}

fn unions(union: &Union) -> Vec<UnionReport> {
    let origins = union::life::origins(union).into_iter();
    origins
        .map(|(mount, origin)| UnionReport {
            id: union.id.clone(),
            mount,
            origin: origin.display().to_string(),
        })
        .collect()
}

fn filesystem(fd: BorrowedFd<'_>, hold: Hold, flags: u32) -> abi::Fs {
    // SAFETY: `struct ff_fs` is made of integers alone; all zeros is a valid one.
    let mut raw: abi::Fs = unsafe { std::mem::zeroed() };
    raw.fd = fd.as_raw_fd();
    raw.flags = flags;
    if hold == Hold::ReadOnly {
        raw.flags |= abi::FS_READ_ONLY;
    }
    raw
}

fn name(mount: &Mount) -> String {
    format!("{} ({} on {})", mount.point.display(), mount.kind, mount.source)
}
