//! The cores of a joined image, while their pages come together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use super::document::{self, Entry};
use super::share::share;
use crate::archive::elsewhere::{Elsewhere, Place};
use crate::archive::head::{PAGE, Segment, push_note, without_note};
use crate::archive::read::core::CoreHead;
use crate::archive::read::gather::{Gather, Wanted};
use crate::archive::read::layout::Held;
use crate::archive::read::needs::Need;
use crate::archive::read::{Fault, ReadError, State};
use crate::archive::{MANIFEST, NOTE_ELSEWHERE, NOTE_OWNER, NOTE_STATE, state_name};
use crate::tools::ToolError;
use crate::tools::extract::scatter;
use crate::tools::kept::Kept;
use crate::tools::place::{Layout, Placed, find, lay_out};

/// What a stretch of a core takes here: its segment or record, its place in the scratch file, and both again as they become.
const STRETCH_BYTES: usize = 2 * (size_of::<Segment>() + size_of::<Placed>());

/// An image that is being joined.
pub(super) struct Joined {
    image: String,
    folder: PathBuf,
    manifest_json: Vec<u8>,
    states: Vec<(i32, Bytes)>,
    cores: Vec<Core>,
    /// Where each process is among them.
    order: BTreeMap<i32, usize>,
    kept: Kept,
}

/// A core that is being joined.
struct Core {
    pid: i32,
    segments: Vec<Segment>,
    /// But for that with the process's state.
    notes: Vec<u8>,
    carries_state: bool,
    /// The pages that it had itself, or in the parent, and has itself now: where they are in the scratch file.
    placed: Vec<Placed>,
    file: File,
    /// In other cores, by address.
    elsewhere: Vec<Elsewhere>,
    /// In a parent, where a core that follows has the same page.
    shared: Vec<Elsewhere>,
    parent_pages: u64,
}

/// A core that was joined.
pub(super) struct Part {
    pub pid: i32,
    pub layout: Layout,
    pub file: File,
    notes: Vec<u8>,
    state: Option<Bytes>,
    placed: Vec<Placed>,
    elsewhere: Vec<Elsewhere>,
    parent_pages: u64,
}

impl Part {
    /// All its notes. They are put together as they are needed: a state is large, and kept already.
    pub fn notes(&self) -> Vec<u8> {
        let mut notes = self.notes.clone();
        if let Some(json) = &self.state {
            push_note(&mut notes, NOTE_OWNER, NOTE_STATE, json);
        }
        if !self.elsewhere.is_empty() {
            let records: Vec<_> = self.elsewhere.iter().flat_map(Elsewhere::to_bytes).collect();
            push_note(&mut notes, NOTE_OWNER, NOTE_ELSEWHERE, &records);
        }
        notes
    }

    /// Where in the scratch file the data are, in their order.
    pub fn sources(&self) -> Vec<(u64, u64)> {
        let mut sources = Vec::new();
        for part in &self.layout.placed {
            let (mut vaddr, end) = (part.vaddr, part.vaddr + part.bytes);
            while let Some((offset, bytes)) = find(&self.placed, vaddr, end - vaddr).filter(|_| vaddr < end) {
                sources.push((offset, bytes));
                vaddr += bytes;
            }
        }
        sources
    }
}

/// All that the joined image consists of.
pub(super) struct Whole {
    pub manifest: Value,
    pub states: Vec<(i32, Bytes)>,
    pub cores: Vec<Part>,
}

impl Joined {
    pub fn new(image: &str, folder: &Path, manifest_json: &[u8]) -> Self {
        Self {
            image: image.to_owned(),
            folder: folder.to_owned(),
            manifest_json: manifest_json.to_owned(),
            states: Vec::new(),
            cores: Vec::new(),
            order: BTreeMap::new(),
            kept: Kept::of(image),
        }
    }

    fn scratch(&self, cause: io::Error) -> ToolError {
        ToolError::Scratch {
            folder: self.folder.clone(),
            cause,
        }
    }

    /// Lays out the cores, now that it is known what is where.
    pub fn finish(self) -> Result<Whole, ToolError> {
        let states: BTreeMap<_, _> = self.states.iter().cloned().collect();
        let mut entries = BTreeMap::new();
        let mut parts = Vec::new();
        for core in self.cores {
            let pages = |records: &[Elsewhere]| records.iter().map(|record| record.bytes / PAGE).sum::<u64>();
            let shared = pages(&core.shared);
            core.fit_file().map_err(|cause| ToolError::Scratch {
                folder: self.folder.clone(),
                cause,
            })?;
            let part = core.finish(&states);
            entries.insert(
                part.pid,
                Entry {
                    core_bytes: part.layout.bytes,
                    from_parents: part.parent_pages.saturating_sub(shared),
                    elsewhere: pages(&part.elsewhere),
                },
            );
            parts.push(part);
        }
        let manifest = document::manifest(&self.manifest_json, &entries)
            .map_err(|cause| damaged(&self.image, MANIFEST, &cause))?;
        Ok(Whole {
            manifest,
            states: self.states,
            cores: parts,
        })
    }
}

impl Core {
    fn new(pid: i32, head: &CoreHead, file: File) -> Self {
        let mut placed: Vec<Placed> = Vec::new();
        let (mut offset, mut parent_pages) = (0, 0);
        for range in head.ranges() {
            if let Held::Elsewhere(record) = range.held {
                if record.place == Place::SameArchive {
                    continue;
                }
                parent_pages += range.bytes / PAGE;
            }
            placed.push(Placed {
                vaddr: range.vaddr,
                bytes: range.bytes,
                offset,
            });
            offset += range.bytes;
        }
        let stay = head
            .elsewhere
            .iter()
            .filter(|record| record.place == Place::SameArchive);
        Self {
            pid,
            segments: head.segments.clone(),
            notes: without_note(&head.notes, NOTE_OWNER, NOTE_STATE).unwrap_or_else(|| head.notes.clone()),
            carries_state: head.state.is_some(),
            placed,
            file,
            elsewhere: stay.copied().collect(),
            shared: Vec::new(),
            parent_pages,
        }
    }

    /// Pages of zeros were left out, also where they are the last.
    fn fit_file(&self) -> io::Result<()> {
        let end = self.placed.last().map_or(0, |part| part.offset + part.bytes);
        self.file.set_len(end)
    }

    fn finish(mut self, states: &BTreeMap<i32, Bytes>) -> Part {
        self.shared.sort_unstable_by_key(|record| record.vaddr);
        let data = without(&self.placed, &self.shared);
        let mut elsewhere = self.elsewhere;
        elsewhere.append(&mut self.shared);
        elsewhere.sort_unstable_by_key(|record| record.vaddr);
        let state = states.get(&self.pid).filter(|_| self.carries_state);
        let mut part = Part {
            pid: self.pid,
            layout: Layout::default(),
            file: self.file,
            notes: self.notes,
            state: state.cloned(),
            placed: self.placed,
            elsewhere,
            parent_pages: self.parent_pages,
        };
        part.layout = lay_out(&self.segments, data, part.notes().len());
        part
    }
}

/// Says what is wrong with a document of `image`.
fn damaged(image: &str, member: &str, cause: &serde_json::Error) -> ToolError {
    ToolError::Read(ReadError {
        archive: image.to_owned(),
        fault: Fault::Damaged {
            place: member.to_owned(),
            offset: 0,
            what: cause.to_string().into(),
        },
    })
}

/// What is left of `placed` without `shared`, as address and bytes; both are sorted.
fn without(placed: &[Placed], shared: &[Elsewhere]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut shared = shared.iter().peekable();
    for part in placed {
        let (mut at, end) = (part.vaddr, part.vaddr + part.bytes);
        while let Some(record) = shared.peek().filter(|record| record.vaddr < end) {
            if record.vaddr > at {
                left.push((at, record.vaddr - at));
            }
            let behind = record.vaddr + record.bytes;
            at = at.max(behind);
            if behind > end {
                break; // the next part has the rest of it
            }
            shared.next();
        }
        if at < end {
            left.push((at, end - at));
        }
    }
    left
}

impl Gather for Joined {
    type Error = ToolError;

    fn state(&mut self, state: State) -> Result<(), ToolError> {
        let json = document::state(state.json)
            .map_err(|cause| damaged(&self.image, &state_name(state.pid), &cause))?;
        self.kept.add(json.len(), 1)?;
        self.states.push((state.pid, json.into()));
        Ok(())
    }

    fn core(&mut self, pid: i32, head: &mut CoreHead) -> Result<Wanted, ToolError> {
        let file = tempfile::tempfile_in(&self.folder).map_err(|cause| self.scratch(cause))?;
        let core = Core::new(pid, head, file);
        self.kept.add(core.notes.len(), 1)?;
        self.kept
            .add(head.segments.len() + head.elsewhere.len(), STRETCH_BYTES)?;
        self.order.insert(pid, self.cores.len());
        self.cores.push(core);
        Ok(Wanted::Yes)
    }

    fn plan(&mut self, needs: Vec<Need>) -> Result<Vec<Need>, ToolError> {
        let (needs, shared) = share(needs, &self.order);
        self.kept.add(shared.len(), STRETCH_BYTES)?;
        for (pid, record) in shared {
            if let Some(core) = self.order.get(&pid).and_then(|at| self.cores.get_mut(*at)) {
                core.shared.push(record);
            }
        }
        Ok(needs)
    }

    fn fill(&mut self, pid: i32, vaddr: u64, bytes: &[u8]) -> Result<(), ToolError> {
        let Some(core) = self.order.get(&pid).and_then(|at| self.cores.get(*at)) else {
            return Ok(());
        };
        scatter(&core.file, &core.placed, vaddr, bytes).map_err(|cause| self.scratch(cause))
    }
}
