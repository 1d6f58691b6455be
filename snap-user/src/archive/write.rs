//! Writes the archive of an image.

use std::io::{self, Write};

use bytes::Bytes;

use super::copies::Copies;
use super::elsewhere::Elsewhere;
use super::head::{PAGE, Segment, head_bytes, write_headers};
use super::layout::{After, Layout, Part, Scores};
use super::manifest::{MANIFEST_VERSION, Manifest, Parent, ProcessEntry};
use super::members::{Count, Member, MemberWriter, Sink, write_manifest};
use super::notes::Notes;
use super::order::{Order, scores, turns};
use super::plan::{ParentImage, Plan, instance};
use super::{HEAD_LIMIT, MANIFEST_LIMIT, STATE_LIMIT, core_name, state, state_name};
use crate::device::ImageSource;
use crate::how::Arm;
use crate::image::{Image, comm};

/// So many bytes go into one piece.
const PIECE_BYTES: u64 = 1 << 20;
/// What small holes are filled with.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// What an archive says of where and when it was made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names this image and no other.
    pub image_id: String,
    /// The kernel's `boot_id`.
    pub boot_id: String,
    /// The host's name.
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
}

impl Facts {
    /// Those of here and now.
    #[must_use]
    pub fn here() -> Self {
        let system = rustix::system::uname();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            image_id: uuid::Uuid::new_v4().to_string(),
            boot_id: boot_id.trim().to_owned(),
            host: system.nodename().to_string_lossy().into_owned(),
            kernel: system.release().to_string_lossy().into_owned(),
        }
    }
}

/// Why an archive cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum LayOutError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Nobody could read the archive.
    #[error(
        "{what} would have {bytes} bytes in the image, more than the {limit} that its readers take, for there are too many descriptors, \
         threads or mappings; leave out the process that has most of them, or let it give some back"
    )]
    TooLarge {
        /// Which part of it.
        what: String,
        /// How long it would be.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
}

/// Is a part of the archive as long as it may be?
fn within(limit: u64, bytes: u64, what: impl FnOnce() -> String) -> Result<u64, LayOutError> {
    if bytes > limit {
        let what = what();
        return Err(LayOutError::TooLarge { what, bytes, limit });
    }
    Ok(bytes)
}

/// How long the parts of a process are that have no pages.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    state: u64,
    notes: u64,
}

/// An archive that is laid out, so that its size is known before its first byte.
#[derive(Debug)]
pub struct Archive<'a, S: ?Sized> {
    image: &'a Image,
    source: &'a S,
    plan: Plan<'a>,
    copies: Copies,
    layouts: Vec<Layout>,
    /// Read before anything is let go.
    args: Vec<Vec<String>>,
    lengths: Vec<Lengths>,
    manifest: Manifest,
}

impl<'a, S: ImageSource + ?Sized> Archive<'a, S> {
    /// Lays an archive out. What of it is in `parent` is let go at once.
    ///
    /// # Errors
    ///
    /// When the image cannot be read, or the archive could not.
    pub fn new(
        image: &'a Image,
        source: &'a S,
        parent: Option<&ParentImage>,
        order: Order,
        facts: Facts,
    ) -> Result<Self, LayOutError> {
        let scores = match order {
            Order::Likely => scores(image, source)?,
            Order::Address => vec![Scores::new(); image.processes.len()],
        };
        let plan = Plan::new(image, parent, turns(&scores));
        let args = image
            .processes
            .iter()
            .map(|process| state::arguments(image, source, process))
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        if parent.is_some() {
            for (first, last) in plan.unneeded() {
                source.release(first, last - first)?;
            }
        }
        let mut copies = Copies::default();
        let processes = image.processes.iter().zip(&scores).enumerate();
        let layouts: Vec<_> = processes
            .map(|(index, (process, scores))| {
                let mut mappings = plan.mappings(index);
                copies.fill(image, process, &mut mappings);
                Layout::new(&mappings, scores)
            })
            .collect();
        let mut archive = Self {
            image,
            source,
            plan,
            copies,
            layouts,
            args,
            lengths: Vec::new(),
            manifest: Manifest {
                manifest_version: MANIFEST_VERSION,
                freezeframe_version: env!("CARGO_PKG_VERSION").to_owned(),
                image_id: facts.image_id,
                snapshot_id: image.header.snapshot_id,
                module_instance: instance(image),
                boot_id: facts.boot_id,
                host: facts.host,
                kernel: facts.kernel,
                instant_ns: image.header.instant_ns,
                instant_unix_ns: image.header.instant_realtime_ns,
                parent: None,
                processes: Vec::new(),
                not_captured: Vec::new(),
            },
        };
        for process in 0..image.processes.len() {
            let (entry, lengths) = archive.entry(process)?;
            archive.manifest.processes.push(entry);
            archive.lengths.push(lengths);
        }
        let any = archive
            .manifest
            .processes
            .iter()
            .any(|entry| entry.whole_because.is_none());
        archive.manifest.parent = parent.filter(|_| any).map(|parent| Parent {
            image_id: parent.image_id.clone(),
            snapshot_id: parent.snapshot_id,
            name: parent.name.clone(),
        });
        let manifest = Count::of(|count| write_manifest(count, &archive.manifest))?;
        within(MANIFEST_LIMIT, manifest, || "the manifest".to_owned())?;
        Ok(archive)
    }

    /// What its manifest says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The same, when it is written: a copy of it may be large.
    #[must_use]
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Bytes of the cores, which is all but a little of the archive.
    #[must_use]
    pub fn core_bytes(&self) -> u64 {
        self.manifest.processes.iter().map(|entry| entry.core_bytes).sum()
    }

    fn entry(&self, process: usize) -> Result<(ProcessEntry, Lengths), LayOutError> {
        let record = &self.image.processes[process];
        let layout = &self.layouts[process];
        let not_captured = state::not_captured(self.image, record);
        let state = Count::of(|count| self.write_state(count, process, &not_captured))?;
        within(STATE_LIMIT, state, || {
            format!("the state of process {}", record.pid)
        })?;
        let notes = Count::of(|count| {
            let state_of = |to: &mut Count| self.write_state(to, process, &not_captured);
            self.notes(process, &layout.elsewhere, state)
                .write(count, state_of)
        })?;
        let head = head_bytes(layout.segments.len(), notes);
        within(HEAD_LIMIT, head, || {
            format!("the head of the core of process {}", record.pid)
        })?;
        let entry = ProcessEntry {
            pid: record.pid,
            ppid: record.ppid,
            comm: comm(&record.comm),
            exe: self.image.text(record.exe),
            state: state_name(record.pid),
            core: core_name(record.pid),
            core_bytes: head + layout.data_bytes,
            threads: record.thread_count,
            arm: Arm::name(record.arm_mode).to_owned(),
            arm_reason: Arm::why(record.arm_reason).to_owned(),
            pages: layout.pages,
            whole_because: self.plan.whole_because(process).map(ToOwned::to_owned),
            not_captured,
        };
        Ok((entry, Lengths { state, notes }))
    }

    /// Made anew whenever it is needed: that of a process with very many descriptors would take too much memory.
    fn write_state(&self, to: impl Write, process: usize, not_captured: &[String]) -> io::Result<()> {
        let known = state::Known {
            args: &self.args[process],
            parent_pages: &self.plan.parent_pages(process),
            not_captured,
        };
        state::write(to, self.image, &self.image.processes[process], known)
    }

    fn notes<'b>(&'b self, process: usize, elsewhere: &'b [Elsewhere], state_bytes: u64) -> Notes<'b> {
        Notes {
            image: self.image,
            process: &self.image.processes[process],
            args: &self.args[process],
            state_bytes,
            elsewhere,
        }
    }

    /// Writes it, once.
    ///
    /// # Errors
    ///
    /// When the image cannot be read, or the sink does not take it.
    pub fn write<K: Sink>(&mut self, sink: K) -> io::Result<K> {
        let mtime = self.image.header.instant_realtime_ns / 1_000_000_000;
        let mut members = MemberWriter::new(sink, mtime);
        members.manifest(&self.manifest)?;
        for (process, entry) in self.manifest.processes.iter().enumerate() {
            let mut state = members.state(entry.pid, self.lengths[process].state)?;
            state.write_all_of(|to| self.write_state(to, process, &entry.not_captured))?;
            state.finish()?;
        }
        for process in self.plan.order() {
            self.write_core(process, &mut members)?;
        }
        members.finish()
    }

    fn write_core<K: Sink>(&mut self, process: usize, members: &mut MemberWriter<K>) -> io::Result<()> {
        let layout = std::mem::take(&mut self.layouts[process]);
        let entry = &self.manifest.processes[process];
        let Lengths { state, notes } = self.lengths[process];
        let data = head_bytes(layout.segments.len(), notes);
        let mut core = members.core(entry.pid, entry.core_bytes)?;
        core.write_all_of(|to| {
            let segments = layout.segments.iter().map(|segment| behind(segment, data));
            write_headers(to, segments, notes)?;
            self.notes(process, &layout.elsewhere, state)
                .write(to, |to| self.write_state(to, process, &entry.not_captured))
        })?;
        write_zeros(entry.core_bytes - layout.data_bytes - core.done(), &mut core)?;
        // The pages take their time, and the rest is not needed meanwhile.
        for part in layout.into_parts() {
            match part {
                Part::Pages { page, pages, after } => self.write_pages(page, pages, after, &mut core)?,
                Part::Copied(index) => write_copy(&self.copies.get(index), &mut core)?,
                Part::Zeros { bytes } => write_zeros(bytes, &mut core)?,
            }
        }
        core.finish()
    }

    fn write_pages<K: Sink>(
        &self,
        page: u64,
        pages: u64,
        after: After,
        core: &mut Member<'_, K>,
    ) -> io::Result<()> {
        let mut at = page;
        while at < page + pages {
            let count = (page + pages - at).min(PIECE_BYTES / PAGE);
            let bytes = usize::try_from(count * PAGE).unwrap_or(usize::MAX);
            let offset = self.image.page_offset(at);
            core.put(match after {
                After::Release => self.source.last_pages(offset, bytes, at)?,
                After::Keep => self.source.pages(offset, bytes)?,
            })?;
            at += count;
        }
        Ok(())
    }
}

/// A segment whose data begin at `data` in the core.
fn behind(segment: &Segment, data: u64) -> Segment {
    Segment {
        offset: if segment.file_bytes == 0 {
            0
        } else {
            segment.offset + data
        },
        ..*segment
    }
}

fn write_copy<K: Sink>(copy: &Bytes, core: &mut Member<'_, K>) -> io::Result<()> {
    let most = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX);
    for at in (0..copy.len()).step_by(most) {
        core.put(copy.slice(at..copy.len().min(at + most)))?;
    }
    Ok(())
}

fn write_zeros<K: Sink>(mut bytes: u64, core: &mut Member<'_, K>) -> io::Result<()> {
    while bytes != 0 {
        let some = bytes.min(ZEROS.len() as u64);
        let length = usize::try_from(some).unwrap_or(ZEROS.len());
        core.put(Bytes::from_static(&ZEROS[..length]))?;
        bytes -= some;
    }
    Ok(())
}
