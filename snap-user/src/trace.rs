//! Loads the BPF programs, attaches them, and reads what they count.
//!
//! # Minimum kernel version
//!
//! 5.10 for the ring buffer (5.8) and fentry on all hooks; a hook that a kernel does not have is reported, not fatal.

mod attach;
mod btf;
mod log;
mod store;

use std::collections::HashMap as Counts;

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::{Btf, Ebpf};
use aya_log::EbpfLogger;
use snap_common::hist::Histogram;
use snap_common::trace::Event;

use self::attach::When;
pub use self::attach::{AttachState, Attached};

/// The object that this build carries; empty if it carries none.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/freezeframe.bpf.o"));

/// Why nothing is traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Built without `cargo xtask build`.
    #[error("this build carries no BPF programs; build it with `cargo xtask build`")]
    NoObject,
    /// The kernel does not describe its types.
    #[error("no BTF ({0}); boot a kernel built with CONFIG_DEBUG_INFO_BTF")]
    NoBtf(#[from] aya::BtfError),
    /// The kernel does not take the object.
    #[error("the BPF programs cannot be loaded (root, or CAP_BPF and CAP_PERFMON, is needed): {0}")]
    Load(#[from] aya::EbpfError),
    /// What the programs have to say cannot be heard.
    #[error("the log of the BPF programs cannot be read: {0}")]
    Log(#[from] aya_log::Error),
    /// A map does not answer.
    #[error("the BPF map {map} cannot be used: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: aya::maps::MapError,
    },
    /// The kernel does not describe what is to be read.
    #[error("what goes into stores is not counted: {0}")]
    Layout(String),
    /// The object is of another release.
    #[error("the BPF object has no map {0}: it is of another release")]
    NoMap(&'static str),
}

/// The loaded programs.
pub struct Tracer {
    ebpf: Ebpf,
    events: RingBuf<MapData>,
    targets: HashMap<MapData, u32, u8>,
    cow_breaks: PerCpuArray<MapData, Histogram>,
    lost: PerCpuArray<MapData, u64>,
    logger: EbpfLogger<log::Stderr>,
    attached: Vec<Attached>,
    cow_links: attach::Links,
    /// How many snapshots want each thread group watched.
    watched: Counts<u32, u32>,
    stores: store::Stores,
}

impl Tracer {
    /// Loads the programs and attaches those that cost an idle machine nothing.
    ///
    /// # Errors
    ///
    /// When the kernel does not take them; a single hook that is missing is no error (see [`Tracer::attached`]).
    pub fn load(object: &[u8]) -> Result<Self, TraceError> {
        if object.is_empty() {
            return Err(TraceError::NoObject);
        }
        let btf = Btf::from_sys_fs()?;
        let mut ebpf = Ebpf::load(object)?;
        let attached = attach::load_all(&mut ebpf, &btf);
        Ok(Self {
            events: take_map(&mut ebpf, "EVENTS")?,
            targets: take_map(&mut ebpf, "TARGETS")?,
            cow_breaks: take_map(&mut ebpf, "COW_BREAKS")?,
            lost: take_map(&mut ebpf, "LOST")?,
            stores: store::Stores::new(&mut ebpf)?,
            logger: EbpfLogger::init_with_logger(&mut ebpf, log::Stderr)?,
            ebpf,
            attached,
            cow_links: attach::Links::new(),
            watched: Counts::new(),
        })
    }

    /// Every program, and whether it is attached now.
    #[must_use]
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// The programs that see nothing on this kernel, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        attach::missing(&self.attached)
    }

    /// Counts the COW breaks of these thread groups from now on, until as many [`Tracer::unwatch`].
    ///
    /// # Errors
    ///
    /// When the map of the targets is full.
    pub fn watch(&mut self, tgids: &[u32]) -> Result<(), TraceError> {
        attach::retry(&mut self.ebpf, &mut self.attached);
        if self.watched.is_empty() {
            self.cow_links =
                attach::attach_while(&mut self.ebpf, &mut self.attached, When::TargetsAreWatched);
        }
        for tgid in tgids {
            self.targets
                .insert(tgid, 1, 0)
                .map_err(|source| TraceError::Map {
                    map: "TARGETS",
                    source,
                })?;
            *self.watched.entry(*tgid).or_default() += 1;
        }
        Ok(())
    }

    /// The other end of [`Tracer::watch`]; with the last one the probes are detached.
    ///
    /// # Errors
    ///
    /// When the map does not let go.
    pub fn unwatch(&mut self, tgids: &[u32]) -> Result<(), TraceError> {
        for tgid in tgids {
            let Some(count) = self.watched.get_mut(tgid) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.watched.remove(tgid);
                self.targets.remove(tgid).map_err(|source| TraceError::Map {
                    map: "TARGETS",
                    source,
                })?;
            }
        }
        if self.watched.is_empty() {
            self.cow_links.clear();
            attach::note_detached(&mut self.attached, When::TargetsAreWatched);
        }
        Ok(())
    }

    /// How long the COW breaks took, over all watches so far.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn cow_breaks(&self) -> Result<Histogram, TraceError> {
        let cpus = self.cow_breaks.get(&0, 0).map_err(|source| TraceError::Map {
            map: "COW_BREAKS",
            source,
        })?;
        let mut sum = Histogram::EMPTY;
        cpus.iter().for_each(|cpu| sum.merge(cpu));
        Ok(sum)
    }

    /// How many events, samples and timestamps found no room.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn lost(&self) -> Result<u64, TraceError> {
        let cpus = self
            .lost
            .get(&0, 0)
            .map_err(|source| TraceError::Map { map: "LOST", source })?;
        Ok(cpus.iter().sum())
    }

    /// Hands every waiting event to `see` and returns how many there were; says what the programs have to say.
    pub fn poll_events(&mut self, mut see: impl FnMut(Event)) -> usize {
        self.logger.flush();
        let mut count = 0;
        while let Some(item) = self.events.next() {
            if item.len() >= size_of::<Event>() {
                // SAFETY: the programs write whole `Event`s, which are made of integers alone.
                see(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
            }
            count += 1;
        }
        count
    }
}

fn take_map<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, TraceError>
where
    T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or(TraceError::NoMap(name))?;
    T::try_from(map).map_err(|source| TraceError::Map { map: name, source })
}

#[cfg(test)]
mod tests {
    use super::{TraceError, Tracer};

    #[test]
    fn a_build_without_programs_says_so() {
        let error = Tracer::load(&[]).err().unwrap();
        assert!(matches!(error, TraceError::NoObject));
        assert!(error.to_string().contains("cargo xtask build"));
    }
}
