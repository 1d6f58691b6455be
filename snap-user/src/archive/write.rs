//! Writes the archive of an image.

use std::io;

use bytes::Bytes;

use super::copies::Copies;
use super::head::{PAGE, Segment, head, head_bytes};
use super::layout::{After, Layout, Part, Scores};
use super::manifest::{MANIFEST_VERSION, Manifest, Parent, ProcessEntry};
use super::members::{CoreWriter, MemberWriter, Sink};
use super::order::{Order, scores, turns};
use super::plan::{ParentImage, Plan, instance};
use super::process::Process;
use super::{core_name, notes, state, state_name};
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
    manifest: Manifest,
}

impl<'a, S: ImageSource + ?Sized> Archive<'a, S> {
    /// Lays an archive out. What of it is in `parent` is let go at once.
    ///
    /// # Errors
    ///
    /// When the image cannot be read.
    pub fn new(
        image: &'a Image,
        source: &'a S,
        parent: Option<&ParentImage>,
        order: Order,
        facts: Facts,
    ) -> io::Result<Self> {
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
        archive.manifest.processes = (0..image.processes.len())
            .map(|process| archive.entry(process))
            .collect::<io::Result<_>>()?;
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
        Ok(archive)
    }

    /// What its manifest says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of the cores, which is all but a little of the archive.
    #[must_use]
    pub fn core_bytes(&self) -> u64 {
        self.manifest.processes.iter().map(|entry| entry.core_bytes).sum()
    }

    fn entry(&self, process: usize) -> io::Result<ProcessEntry> {
        let record = &self.image.processes[process];
        let (state, json) = self.state(process)?;
        let notes = self.notes(process, &state, &json);
        let layout = &self.layouts[process];
        Ok(ProcessEntry {
            pid: record.pid,
            ppid: record.ppid,
            comm: comm(&record.comm),
            exe: self.image.text(record.exe),
            state: state_name(record.pid),
            core: core_name(record.pid),
            core_bytes: head_bytes(layout.segments.len(), notes.len()) + layout.data_bytes,
            threads: record.thread_count,
            arm: Arm::name(record.arm_mode).to_owned(),
            arm_reason: Arm::why(record.arm_reason).to_owned(),
            pages: layout.pages,
            whole_because: self.plan.whole_because(process).map(ToOwned::to_owned),
            not_captured: state.not_captured,
        })
    }

    /// Made anew whenever it is needed: those of a thousand processes would take too much memory.
    fn state(&self, process: usize) -> io::Result<(Process, Vec<u8>)> {
        let record = &self.image.processes[process];
        let mut state = state::describe(self.image, record, self.args[process].clone());
        for (mapping, pages) in state.mappings.iter_mut().zip(self.plan.parent_pages(process)) {
            mapping.parent_pages = pages;
        }
        let json = serde_json::to_vec(&state)?;
        Ok((state, json))
    }

    fn notes(&self, process: usize, state: &Process, json: &[u8]) -> Vec<u8> {
        let elsewhere = &self.layouts[process].elsewhere;
        notes::notes(self.image, &self.image.processes[process], state, json, elsewhere)
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// When the image cannot be read, or the sink does not take it.
    pub fn write<K: Sink>(&self, sink: K) -> io::Result<K> {
        let mtime = self.image.header.instant_realtime_ns / 1_000_000_000;
        let mut members = MemberWriter::new(sink, mtime);
        members.manifest(&self.manifest)?;
        for (process, record) in self.image.processes.iter().enumerate() {
            members.state(record.pid, self.state(process)?.1.into())?;
        }
        for process in self.plan.order() {
            self.write_core(process, &mut members)?;
        }
        members.finish()
    }

    fn write_core<K: Sink>(&self, process: usize, members: &mut MemberWriter<K>) -> io::Result<()> {
        let entry = &self.manifest.processes[process];
        let layout = &self.layouts[process];
        let (state, json) = self.state(process)?;
        let notes = self.notes(process, &state, &json);
        let data = head_bytes(layout.segments.len(), notes.len());
        let segments: Vec<_> = layout
            .segments
            .iter()
            .map(|segment| behind(segment, data))
            .collect();
        let mut core = members.core(entry.pid, entry.core_bytes)?;
        core.put(head(&segments, &notes).into())?;
        for part in &layout.parts {
            match *part {
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
        core: &mut CoreWriter<'_, K>,
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

fn write_copy<K: Sink>(copy: &Bytes, core: &mut CoreWriter<'_, K>) -> io::Result<()> {
    let most = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX);
    for at in (0..copy.len()).step_by(most) {
        core.put(copy.slice(at..copy.len().min(at + most)))?;
    }
    Ok(())
}

fn write_zeros<K: Sink>(mut bytes: u64, core: &mut CoreWriter<'_, K>) -> io::Result<()> {
    while bytes != 0 {
        let some = bytes.min(ZEROS.len() as u64);
        let length = usize::try_from(some).unwrap_or(ZEROS.len());
        core.put(Bytes::from_static(&ZEROS[..length]))?;
        bytes -= some;
    }
    Ok(())
}
