//! What the memory of `drift` must be at every instant, for the process itself and for whoever looks at a snapshot of it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::device::Snapshot;
use crate::image::Image;
use crate::target::Target;

/// Words of a page.
pub const WORDS: u64 = 512;
/// Words of the state that each region has.
pub const STATE: u64 = 8;

/// A stretch of the memory.
pub struct Region {
    /// How the process calls it.
    pub name: &'static str,
    /// How long it is.
    pub pages: u64,
    /// Every page has the same content.
    pub same: bool,
    /// It is written over and over.
    pub hot: bool,
}

const fn region(name: &'static str, pages: u64) -> Region {
    Region {
        name,
        pages,
        same: false,
        hot: true,
    }
}

/// The one whose pages are given back, split and collapsed.
pub const TORN: usize = 4;

/// All of them, each with a state of its own: its generation, and what of it was given back.
pub const REGIONS: [Region; 5] = [
    region("busy", 512),
    Region {
        hot: false,
        ..region("cold", 1024)
    },
    Region {
        same: true,
        ..region("same", 256)
    },
    Region {
        same: true,
        hot: false,
        ..region("twins", 256)
    },
    region("torn", 1024),
];

/// What stands at a word of a region in a generation. Nothing compresses it.
#[must_use]
#[inline]
pub const fn word(region: usize, generation: u64, index: u64) -> u64 {
    let index = if REGIONS[region].same {
        index % WORDS
    } else {
        index
    };
    let mut word = (index + 1)
        .wrapping_add(generation << 24)
        .wrapping_add((region as u64) << 56)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^ (word >> 29)
}

/// A `drift` that runs.
pub struct Drift {
    /// The process.
    pub target: Target,
}

impl Drift {
    /// Starts one, in the cgroup that has this directory.
    #[must_use]
    pub fn spawn(group: &str) -> Self {
        Self {
            target: Target::spawn_in(group, "drift"),
        }
    }

    /// Asks it whether all that it ever found in its memory was right.
    ///
    /// # Panics
    ///
    /// When it was not, and it is gone.
    pub fn assert_right(&mut self) {
        assert_eq!(self.target.ask(), "right\n", "it finds its own memory changed");
    }

    /// Has it map and write memory that it did not have, with a page table of its own. Returns the address, whose word is
    /// the address.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn grow(&mut self) -> u64 {
        let said = self.target.tell("grow");
        said.trim().parse().expect("an address")
    }

    /// How many bytes of it are in swap.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[must_use]
    pub fn swapped(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.target.pid())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .expect("it is said");
        kib.parse::<u64>().expect("a number") * 1024
    }

    /// The generations of its regions now.
    fn generations(&self) -> Vec<u64> {
        let memory = File::open(format!("/proc/{}/mem", self.target.pid())).expect("it lives");
        let mut bytes = [0; 4096];
        memory
            .read_exact_at(&mut bytes, self.target.at("state"))
            .expect("it lives");
        bytes
            .chunks_exact(8 * usize::try_from(STATE).expect("few"))
            .take(REGIONS.len())
            .map(|state| u64::from_ne_bytes(state[..8].try_into().expect("8 bytes")))
            .collect()
    }

    /// Waits until every page of those that it writes has been written again.
    ///
    /// # Panics
    ///
    /// When it stands still.
    pub fn overwritten(&self) {
        let before = self.generations();
        let begin = Instant::now();
        loop {
            let mut pairs = self.generations().into_iter().zip(&before).zip(REGIONS);
            if pairs.all(|((now, before), region)| !region.hot || now >= before + 2) {
                return;
            }
            assert!(
                begin.elapsed() < crate::patience(120),
                "it stands still: {before:?}, {:?}",
                self.generations()
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Everything that is wrong with the memory of a snapshot of it.
    #[must_use]
    pub fn wrong(&self, snapshot: &Snapshot) -> Vec<String> {
        let image = Image::open(&snapshot.file);
        let state = image
            .pages(self.target.pid(), self.target.at("state"), 1)
            .remove(0);
        let Some(state) = state else {
            return vec!["the state is not in the image".to_owned()];
        };
        REGIONS
            .iter()
            .enumerate()
            .filter_map(|(index, region)| {
                let count = usize::try_from(region.pages).expect("few");
                let pages = image.pages(self.target.pid(), self.target.at(region.name), count);
                let (generation, given) = (state[index * 8], state[index * 8 + 1]);
                wrong_pages(index, generation, given, &pages)
                    .map(|wrong| format!("{} in generation {generation}: {wrong}", region.name))
            })
            .collect()
    }
}

/// The first words are of this generation, the others of the one before; what is being given back and written anew has
/// zeros instead.
fn wrong_pages(region: usize, generation: u64, given: u64, pages: &[Option<Vec<u64>>]) -> Option<String> {
    let given = given >> 32..given & 0xffff_ffff;
    let (mut written, mut anew) = (true, true);
    let mut wrong = Vec::new();
    let mut missing = 0;
    for (number, page) in (0..).zip(pages) {
        if given.contains(&number) {
            let zeros = vec![0; 512];
            let page = page.as_ref().unwrap_or(&zeros);
            let right = (0..).zip(page).all(|(index, found)| {
                anew &= *found == word(region, generation, number * WORDS + index);
                anew || *found == 0
            });
            if !right {
                wrong.push(number);
            }
            continue;
        }
        let Some(page) = page else {
            missing += 1;
            wrong.push(number);
            continue;
        };
        let right = (0..).zip(page).all(|(index, found)| {
            written &= *found == word(region, generation, number * WORDS + index);
            written
                || REGIONS[region].hot
                    && given.is_empty()
                    && *found == word(region, generation - 1, number * WORDS + index)
        });
        if !right {
            wrong.push(number);
        }
    }
    (!wrong.is_empty()).then(|| {
        format!(
            "{} pages are wrong, {missing} of them missing, the first {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(8)]
        )
    })
}
