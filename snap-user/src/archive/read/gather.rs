//! Brings the pages of an image together, wherever they are: each archive is read once, the image first and its parents after it,
//! and every page is handed on as it passes. References lead forward, so whoever has read the heads knows what to look for in the
//! data that follow.

use std::collections::BTreeSet;
use std::io::Read;

use super::core::CoreHead;
use super::layout::{Held, Range};
use super::needs::{Found, Hop, Need, Needs};
use super::{ArchiveReader, Item, ReadError, State};
use crate::archive::elsewhere::Place;
use crate::archive::manifest::{Manifest, Parent};
use crate::archive::{MANIFEST, core_name};

pub use super::needs::Wanted;

/// So many stretches of memory may be waited for at once: the most that this takes is below 2 GiB.
const MOST_NEEDS: usize = 1 << 25;

/// Which references are followed. To the others, too, there has to be a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// All.
    All,
    /// Those to parents; what is in another core of the image itself stays there.
    Parents,
}

/// How far the chain of parents is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// As far as pages are wanted.
    Needed,
    /// To the whole image at its end, with all that any of them has in its parent.
    Whole,
    /// Not at all.
    ImageOnly,
}

/// Takes what is gathered.
pub trait Gather {
    /// What it fails with.
    type Error: From<ReadError>;

    /// Takes the state of a process of the image.
    ///
    /// # Errors
    ///
    /// When it cannot.
    fn state(&mut self, state: State) -> Result<(), Self::Error>;

    /// Looks at the core of a process of the image, before any of its pages come.
    ///
    /// # Errors
    ///
    /// When it cannot.
    fn core(&mut self, pid: i32, head: &mut CoreHead) -> Result<Wanted, Self::Error>;

    /// Looks at what the core of a parent is about to yield, and may take away of it.
    ///
    /// # Errors
    ///
    /// When it cannot.
    fn plan(&mut self, needs: Vec<Need>) -> Result<Vec<Need>, Self::Error> {
        Ok(needs)
    }

    /// Takes pages: they belong at `vaddr` of that process.
    ///
    /// # Errors
    ///
    /// When it cannot.
    fn fill(&mut self, pid: i32, vaddr: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// An archive that was read.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its size, unwrapped.
    pub bytes: u64,
}

/// Reads `image`, and its parents as `depth` says; `open` opens a parent. Everything that was read is returned, the image first, and all of it
/// was sound.
///
/// # Errors
///
/// When an archive cannot be read or is not sound, and what `open` and `to` fail with.
pub fn gather<R: Read, P: Read, G: Gather>(
    image: ArchiveReader<R>,
    follow: Follow,
    depth: Depth,
    mut open: impl FnMut(&Parent) -> Result<ArchiveReader<P>, G::Error>,
    to: &mut G,
) -> Result<Vec<Done>, G::Error> {
    let mut pass = Pass {
        to,
        follow,
        depth,
        here: Needs::new(),
        next: Needs::new(),
        count: 0,
    };
    let mut done = vec![pass.image(image)?];
    let mut seen = BTreeSet::new();
    loop {
        let last = &done[done.len() - 1].manifest;
        let go_on = match depth {
            Depth::Needed => !pass.next.is_empty(),
            Depth::Whole => true,
            Depth::ImageOnly => false,
        };
        let Some(parent) = last.parent.as_ref().filter(|_| go_on) else {
            return Ok(done);
        };
        seen.insert(last.image_id.clone());
        let reader = open(parent)?;
        if seen.contains(&reader.manifest().image_id) {
            return Err(reader
                .wrong(MANIFEST, "it is its own parent, by way of others or not")
                .into());
        }
        pass.here = std::mem::take(&mut pass.next);
        done.push(pass.parent(reader)?);
    }
}

struct Pass<'a, G> {
    to: &'a mut G,
    follow: Follow,
    depth: Depth,
    /// In cores of the archive that is being read, which come later.
    here: Needs,
    /// In cores of its parent.
    next: Needs,
    count: usize,
}

impl<G: Gather> Pass<'_, G> {
    fn image<R: Read>(&mut self, mut reader: ArchiveReader<R>) -> Result<Done, G::Error> {
        while let Some(item) = reader.next_item()? {
            match item {
                Item::State(state) => self.to.state(*state)?,
                Item::Core(pid, mut head) => {
                    let wanted = self.to.core(pid, &mut head)?;
                    let needs = self.resolve(pid, &head, wanted, &reader)?;
                    drop(head);
                    self.stream((wanted == Wanted::Yes).then_some(pid), needs, &mut reader)?;
                }
            }
        }
        Ok(done(&reader))
    }

    fn parent<R: Read>(&mut self, mut reader: ArchiveReader<R>) -> Result<Done, G::Error> {
        let held: BTreeSet<_> = reader
            .manifest()
            .processes
            .iter()
            .map(|entry| entry.pid)
            .collect();
        if let Some(pid) = self.here.keys().find(|pid| !held.contains(*pid)) {
            let what = format!("pages of its child are said to be in core.{pid}, which it has not");
            return Err(reader.wrong(MANIFEST, what).into());
        }
        while let Some(item) = reader.next_item()? {
            if let Item::Core(pid, head) = item {
                let needs = self.resolve(pid, &head, Wanted::No, &reader)?;
                drop(head);
                let needs = self.to.plan(needs)?;
                self.stream(None, needs, &mut reader)?;
            }
        }
        Ok(done(&reader))
    }

    fn take(&mut self, pid: i32) -> Vec<Need> {
        let needs = self.here.remove(&pid).unwrap_or_default();
        self.count -= needs.len();
        needs
    }

    /// Notes what the process itself has elsewhere.
    fn ask<R: Read>(
        &mut self,
        pid: i32,
        head: &CoreHead,
        wanted: Wanted,
        own: &mut Vec<Need>,
        reader: &ArchiveReader<R>,
    ) -> Result<(), ReadError> {
        for record in &head.elsewhere {
            let wanted = match (record.place, self.follow) {
                (Place::SameArchive, Follow::Parents) => Wanted::No,
                _ => wanted,
            };
            let need = Need {
                wanted,
                there: record.vaddr_there,
                bytes: record.bytes,
                pid,
                vaddr: record.vaddr,
                hop: match record.place {
                    Place::SameArchive => Hop::Last,
                    Place::Parent => Hop::Any,
                },
            };
            match record.place {
                Place::SameArchive if record.pid_there == pid => own.push(need),
                Place::SameArchive => {
                    Self::note(&mut self.here, &mut self.count, record.pid_there, need, reader)?;
                }
                Place::Parent if wanted == Wanted::No && self.depth != Depth::Whole => {}
                Place::Parent => {
                    Self::note(&mut self.next, &mut self.count, record.pid_there, need, reader)?;
                }
            }
        }
        Ok(())
    }

    fn note<R: Read>(
        needs: &mut Needs,
        count: &mut usize,
        pid: i32,
        need: Need,
        reader: &ArchiveReader<R>,
    ) -> Result<(), ReadError> {
        *count += 1;
        if *count > MOST_NEEDS {
            return Err(reader.wrong(
                &core_name(pid),
                "more stretches of it are referred to than can be followed",
            ));
        }
        needs.entry(pid).or_default().push(need);
        Ok(())
    }

    /// What the core has itself of what is waited for in it; the rest is sent on. `wanted` is what the core has elsewhere.
    fn resolve<R: Read>(
        &mut self,
        pid: i32,
        head: &CoreHead,
        wanted: Wanted,
        reader: &ArchiveReader<R>,
    ) -> Result<Vec<Need>, ReadError> {
        let mut needs = self.take(pid);
        self.ask(pid, head, wanted, &mut needs, reader)?;
        if needs.is_empty() {
            return Ok(needs);
        }
        let ranges: Vec<Range> = head.ranges().collect();
        let missing = |at: u64, who: i32| {
            let what = format!("pages of process {who} are said to be at {at:#x} of it, and are not");
            reader.wrong(&core_name(pid), what)
        };
        let mut found = Vec::new();
        while let Some(need) = needs.pop() {
            let mut at = need.there;
            let mut index = ranges.partition_point(|range| range.end() <= at);
            while at < need.end() {
                let range = ranges
                    .get(index)
                    .filter(|range| range.vaddr <= at)
                    .ok_or_else(|| missing(at, need.pid))?;
                let part = need.part(at, need.end().min(range.end()));
                (at, index) = (part.end(), index + 1);
                let Held::Elsewhere(record) = range.held else {
                    if need.wanted == Wanted::No {
                        continue;
                    }
                    if found.len() + self.count >= MOST_NEEDS {
                        return Err(too_many(pid, reader));
                    }
                    found.push(part);
                    continue;
                };
                if need.hop == Hop::Last {
                    return Err(missing(part.there, need.pid));
                }
                if need.wanted == Wanted::No {
                    continue; // where it leads from here is asked by this core itself
                }
                let on = Need {
                    there: record.vaddr_there + (part.there - record.vaddr),
                    hop: match record.place {
                        Place::SameArchive => Hop::Last,
                        Place::Parent => Hop::Any,
                    },
                    ..part
                };
                match record.place {
                    Place::SameArchive if record.pid_there == pid => needs.push(on),
                    Place::SameArchive => {
                        Self::note(&mut self.here, &mut self.count, record.pid_there, on, reader)?;
                    }
                    Place::Parent => {
                        Self::note(&mut self.next, &mut self.count, record.pid_there, on, reader)?;
                    }
                }
            }
        }
        Ok(found)
    }

    fn stream<R: Read>(
        &mut self,
        pid: Option<i32>,
        needs: Vec<Need>,
        reader: &mut ArchiveReader<R>,
    ) -> Result<(), G::Error> {
        let found = Found::new(needs);
        while let Some(piece) = reader.data()? {
            if let Some(pid) = pid {
                self.to.fill(pid, piece.vaddr, piece.bytes)?;
            }
            let (begin, end) = (piece.vaddr, piece.vaddr + piece.bytes.len() as u64);
            found.overlapping(begin, end, &mut |need| {
                let part = need.part(need.there.max(begin), need.end().min(end));
                let from = usize::try_from(part.there - begin).unwrap_or(usize::MAX);
                let length = usize::try_from(part.bytes).unwrap_or(usize::MAX);
                let bytes = piece.bytes.get(from..).and_then(|rest| rest.get(..length));
                self.to.fill(need.pid, part.vaddr, bytes.unwrap_or_default())
            })?;
        }
        Ok(())
    }
}

fn too_many<R: Read>(pid: i32, reader: &ArchiveReader<R>) -> ReadError {
    reader.wrong(
        &core_name(pid),
        "more stretches of it are referred to than can be followed",
    )
}

fn done<R: Read>(reader: &ArchiveReader<R>) -> Done {
    Done {
        manifest: reader.manifest().clone(),
        bytes: reader.offset(),
    }
}
