//! What goes where: which core holds which pages, which are elsewhere, and in which order the cores come.

use serde::{Deserialize, Serialize};
use snap_common::abi;

use super::elsewhere::Place;
use super::head::PAGE;
use super::layout::{Extent, Mapped, What};
use super::manifest::Manifest;
use super::share::{Claim, Part, Shares};
use crate::image::Image;

/// The image that has what did not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentImage {
    /// Its `image_id`.
    pub image_id: String,
    /// Its `snapshot_id`.
    pub snapshot_id: u64,
    /// Its `module_instance`.
    pub module_instance: String,
    /// The processes that it holds.
    pub pids: Vec<i32>,
    /// Its file's name, without a folder.
    pub name: String,
}

impl ParentImage {
    /// Of the image that has this manifest.
    #[must_use]
    pub fn new(manifest: &Manifest, name: String) -> Self {
        Self {
            image_id: manifest.image_id.clone(),
            snapshot_id: manifest.snapshot_id,
            module_instance: manifest.module_instance.clone(),
            pids: manifest.processes.iter().map(|entry| entry.pid).collect(),
            name,
        }
    }
}

/// What goes where.
#[derive(Debug)]
pub struct Plan<'a> {
    image: &'a Image,
    shares: Shares,
    /// Of each process, where its core stands among the cores.
    turns: Vec<u32>,
    /// Of each process, why it is whole although there is a parent.
    whole_because: Vec<Option<String>>,
    has_parent: bool,
}

impl<'a> Plan<'a> {
    /// Decides. The cores come in the order of `turns`, one for each process.
    #[must_use]
    pub fn new(image: &'a Image, parent: Option<&ParentImage>, turns: Vec<u32>) -> Self {
        let whole_because = image
            .processes
            .iter()
            .map(|process| parent.and_then(|parent| whole_because(image, process, parent)))
            .collect();
        let mut plan = Self {
            image,
            shares: Shares::default(),
            turns,
            whole_because,
            has_parent: parent.is_some(),
        };
        plan.shares = plan.find_shares();
        plan
    }

    /// The processes by their turns.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.turns.len()).collect();
        order.sort_by_key(|index| self.turns[*index]);
        order
    }

    /// Why a process is whole although there is a parent.
    #[must_use]
    pub fn whole_because(&self, process: usize) -> Option<&str> {
        self.whole_because[process].as_deref()
    }

    /// Is a run in the parent?
    fn is_in_parent(&self, process: usize, run: &abi::ImageRun) -> bool {
        self.has_parent && self.whole_because[process].is_none() && run.flags & abi::RUN_UNCHANGED != 0
    }

    fn claims(&self, process: usize) -> impl Iterator<Item = Claim> {
        let image = self.image;
        let record = &image.processes[process];
        image
            .vmas_of(record)
            .iter()
            .flat_map(|vma| image.runs_of(vma))
            .filter(move |run| run.flags & abi::RUN_UNREADABLE == 0 && !self.is_in_parent(process, run))
            .map(move |run| Claim {
                page: run.page,
                pages: u64::from(run.pages),
                turn: self.turns[process],
                pid: record.pid,
                vaddr: run.vaddr,
            })
    }

    fn find_shares(&self) -> Shares {
        let all = || (0..self.turns.len()).flat_map(|process| self.claims(process));
        let claimed: u64 = all().map(|claim| claim.pages).sum();
        // Most images share nothing, and then every page has one claim, or none.
        if claimed <= self.image.header.data_pages && !self.image.shares_pages() {
            return Shares::default();
        }
        Shares::new(all().collect())
    }

    /// The data pages that no core will hold: they are in the parent. First and behind the last.
    #[must_use]
    pub fn unneeded(&self) -> Vec<(u64, u64)> {
        let mut needed: Vec<_> = (0..self.turns.len())
            .flat_map(|process| self.claims(process))
            .map(|claim| (claim.page, claim.page + claim.pages))
            .collect();
        needed.sort_unstable();
        needed.push((self.image.header.data_pages, u64::MAX));
        let mut unneeded = Vec::new();
        let mut at = 0;
        for (first, last) in needed {
            if first > at {
                unneeded.push((at, first));
            }
            at = at.max(last);
        }
        unneeded
    }

    /// The memory of a process, mapping by mapping.
    #[must_use]
    pub fn mappings(&self, process: usize) -> Vec<Mapped> {
        let record = &self.image.processes[process];
        let vmas = self.image.vmas_of(record);
        vmas.iter()
            .map(|vma| Mapped {
                flags: segment_flags(vma.flags),
                extents: self.extents(process, vma),
            })
            .collect()
    }

    fn extents(&self, process: usize, vma: &abi::ImageVma) -> Vec<Extent> {
        let anonymous = vma.inode == 0 || vma.flags & abi::VMA_SHMEM != 0;
        let hidden = abi::VMA_DEVICE | abi::VMA_SPECIAL | abi::VMA_INTERNAL;
        let untouched = if anonymous && vma.flags & hidden == 0 {
            What::Zeros
        } else {
            What::Absent
        };
        let mut extents = Vec::new();
        let mut at = vma.start;
        let mut push = |at: &mut u64, bytes: u64, what: What| {
            if bytes != 0 {
                extents.push(Extent {
                    vaddr: *at,
                    bytes,
                    what,
                });
                *at += bytes;
            }
        };
        for run in self.image.runs_of(vma) {
            let hole = run.vaddr - at;
            push(&mut at, hole, untouched);
            let bytes = u64::from(run.pages) * PAGE;
            if run.flags & abi::RUN_UNREADABLE != 0 {
                push(&mut at, bytes, What::Unreadable);
                continue;
            }
            let pid = self.image.processes[process].pid;
            if self.is_in_parent(process, run) {
                let there = elsewhere(pid, at, Place::Parent);
                push(&mut at, bytes, there);
                continue;
            }
            let claim = Claim {
                page: run.page,
                pages: u64::from(run.pages),
                turn: self.turns[process],
                pid,
                vaddr: run.vaddr,
            };
            let mut page = run.page;
            for part in self.shares.parts(claim) {
                let (pages, what) = match part {
                    Part::Alone { pages } | Part::Here { pages } => (pages, What::Data { page }),
                    Part::There { pages, pid, vaddr } => (pages, elsewhere(pid, vaddr, Place::SameArchive)),
                };
                push(&mut at, pages * PAGE, what);
                page += pages;
            }
        }
        let rest = vma.end - at;
        push(&mut at, rest, untouched);
        extents
    }

    /// How many pages of each mapping are in the parent.
    #[must_use]
    pub fn parent_pages(&self, process: usize) -> Vec<u64> {
        let record = &self.image.processes[process];
        let vmas = self.image.vmas_of(record).iter();
        vmas.map(|vma| {
            let runs = self.image.runs_of(vma).iter();
            runs.filter(|run| self.is_in_parent(process, run))
                .map(|run| u64::from(run.pages))
                .sum()
        })
        .collect()
    }
}

const fn elsewhere(pid: i32, vaddr: u64, place: Place) -> What {
    What::Elsewhere { vaddr, pid, place }
}

/// `PF_R`, `PF_W`, `PF_X` of a mapping.
fn segment_flags(flags: u32) -> u32 {
    [(abi::VMA_READ, 4), (abi::VMA_WRITE, 2), (abi::VMA_EXEC, 1)]
        .into_iter()
        .filter(|(ours, _)| flags & ours != 0)
        .map(|(_, elf)| elf)
        .sum()
}

/// The module's instance, as manifests have it.
#[must_use]
pub fn instance(image: &Image) -> String {
    format!("{:016x}", image.header.instance)
}

fn whole_because(image: &Image, process: &abi::ImageProcess, parent: &ParentImage) -> Option<String> {
    if parent.module_instance != instance(image) {
        return Some("the kernel module was loaded anew since the parent".to_owned());
    }
    let why = match process.track {
        abi::TRACK_ON => None,
        abi::TRACK_NO_KERNEL => Some("this kernel does not tell what has changed; see `freezeframe doctor`"),
        abi::TRACK_EAGER => Some("it was armed eagerly, which does not tell what has changed"),
        abi::TRACK_FOREIGN => Some("another program tracks its changes by /proc/PID/clear_refs"),
        abi::TRACK_MERGED => Some("the kernel merges its pages (KSM) without telling which"),
        _ => Some("the module does not tell what has changed"),
    };
    if let Some(why) = why {
        return Some(why.to_owned());
    }
    if !parent.pids.contains(&process.pid) {
        return Some("it is not in the parent".to_owned());
    }
    match process.parent_id {
        0 => Some("nothing is known of what has changed since the parent".to_owned()),
        id if id != parent.snapshot_id => Some(format!(
            "snapshot {id} was taken of it since the parent, which is snapshot {}",
            parent.snapshot_id
        )),
        _ => None,
    }
}
