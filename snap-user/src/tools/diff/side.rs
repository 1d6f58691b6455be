//! One of the two images that are compared: what is kept of it.

use std::collections::BTreeMap;

use super::sums::{Sum, Sums};
use crate::archive::elsewhere::Place;
use crate::archive::manifest::Manifest;
use crate::archive::process::Process;
use crate::archive::read::State;
use crate::archive::read::core::CoreHead;
use crate::archive::read::gather::{Depth, Follow, Gather, Wanted, gather};
use crate::archive::read::layout::{Held, Range};
use crate::stream::open::{Keys, Location};
use crate::tools::ToolError;
use crate::tools::input::{self, Chain};
use crate::tools::kept::Kept;

/// What is kept of an image.
#[derive(Debug)]
pub(super) struct Side {
    /// Its manifest.
    pub manifest: Manifest,
    /// The states of its processes.
    pub processes: BTreeMap<i32, Process>,
    /// The pages that it holds of each, by address.
    pub ranges: BTreeMap<i32, Vec<Range>>,
    /// The parent, where pages in it are left there.
    stays: Option<String>,
    sums: Sums,
    kept: Kept,
}

impl Side {
    /// Reads an image; what it has in the image `known` is left there.
    pub fn read(
        image: &Location,
        keys: &Keys,
        chain: &mut Chain,
        known: Option<&str>,
    ) -> Result<Self, ToolError> {
        let reader = input::reader(image, keys)?;
        let manifest = reader.manifest().clone();
        let stays = manifest.parent.as_ref().map(|parent| parent.image_id.clone());
        let mut side = Self {
            manifest,
            processes: BTreeMap::new(),
            ranges: BTreeMap::new(),
            stays: stays.filter(|id| known == Some(id)),
            sums: Sums::default(),
            kept: Kept::of(&image.to_string()),
        };
        gather(
            reader,
            Follow::Parents,
            Depth::Needed,
            |parent| chain.open(parent),
            &mut side,
        )?;
        Ok(side)
    }

    /// Whether this image left its pages in that one.
    pub fn is_child_of(&self, other: &Self) -> bool {
        self.stays.as_ref() == Some(&other.manifest.image_id)
    }

    /// The sum of the page at `vaddr` of a process, which lies in `range`.
    pub fn sum_in(&self, range: &Range, pid: i32, vaddr: u64) -> Option<Sum> {
        match range.held {
            Held::Elsewhere(record) if record.place == Place::SameArchive => self
                .sums
                .get(record.pid_there, record.vaddr_there + (vaddr - record.vaddr)),
            _ => self.sums.get(pid, vaddr),
        }
    }

    /// The sum of the page at `vaddr` of a process, wherever it lies.
    pub fn sum_at(&self, pid: i32, vaddr: u64) -> Option<Sum> {
        let ranges = self.ranges.get(&pid)?;
        let range = ranges.get(ranges.partition_point(|range| range.end() <= vaddr))?;
        (range.vaddr <= vaddr).then(|| self.sum_in(range, pid, vaddr))?
    }
}

impl Gather for Side {
    type Error = ToolError;

    fn state(&mut self, state: State) -> Result<(), ToolError> {
        self.kept.add(state.json.len(), 1)?;
        self.processes.insert(state.pid, state.process);
        Ok(())
    }

    fn core(&mut self, pid: i32, head: &mut CoreHead) -> Result<Wanted, ToolError> {
        let ranges: Vec<_> = head.ranges().collect();
        self.kept.add(ranges.len(), size_of::<Range>())?;
        self.ranges.insert(pid, ranges);
        if self.stays.is_some() {
            head.elsewhere.retain(|record| record.place != Place::Parent);
        }
        Ok(Wanted::Yes)
    }

    fn fill(&mut self, pid: i32, vaddr: u64, bytes: &[u8]) -> Result<(), ToolError> {
        self.sums.add(pid, vaddr, bytes);
        Ok(())
    }
}
