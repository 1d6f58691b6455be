//! What the program `sectors` writes, and what of it must be on a disk at an instant.
//!
//! Every word of a block follows from the number of its sector, the block's sequence, and where it stands: a sector that is
//! not whole is seen, and so is one that lies in the wrong place. The writer keeps, for every block, which sequence it
//! began to write, which it wrote, and which has been flushed.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::memory::{Live, Memory};
use crate::patience;
use crate::target::{Target, numbers};

/// Words of a block of 4 KiB.
pub const WORDS: usize = 512;
const PER_SECTOR: usize = 64;

/// What stands at a word of a block.
#[must_use]
#[inline]
pub const fn word(block: u64, sequence: u64, index: usize) -> u64 {
    let sector = block * (WORDS / PER_SECTOR) as u64 + (index / PER_SECTOR) as u64;
    match index % PER_SECTOR {
        0 => sector,
        1 => sequence,
        _ => {
            let seed = sector.rotate_left(40) ^ sequence.rotate_left(16) ^ index as u64;
            let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 29)
        }
    }
}

/// How the blocks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `O_DIRECT`.
    Direct,
    /// `write()` through the page cache.
    Buffered,
    /// Stores in a shared mapping.
    Mapped,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Buffered, Self::Mapped];

    /// As the program takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
            Self::Mapped => "mapped",
        }
    }

    /// What of a block is written at once, seen from a frozen filesystem.
    #[must_use]
    pub const fn grain(self) -> Grain {
        match self {
            Self::Direct | Self::Buffered => Grain::Block,
            Self::Mapped => Grain::Word,
        }
    }
}

/// What is of one sequence, if not the whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// The block is.
    Block,
    /// Each sector is: the power may fail between two of them.
    Sector,
    /// The words before some word are of one, and from there on of the one before: a frozen filesystem stops a store anywhere.
    Word,
}

/// Which sequences are in a block.
///
/// # Errors
///
/// What is wrong with it.
pub fn sequences(words: &[u64], block: u64, grain: Grain) -> Result<RangeInclusive<u64>, String> {
    let at = |index: usize, sequence: u64| words[index] == word(block, sequence, index);
    let newest = words[1];
    match grain {
        Grain::Word => {
            let split = (0..WORDS).find(|index| !at(*index, newest)).unwrap_or(WORDS);
            let oldest = if split == WORDS {
                newest
            } else {
                newest.wrapping_sub(1)
            };
            match (split..WORDS).find(|index| !at(*index, oldest)) {
                None => Ok(oldest..=newest),
                Some(wrong) => Err(format!(
                    "block {block} is of sequence {newest} before word {split}; word {wrong} is of neither it nor the one before"
                )),
            }
        }
        Grain::Block | Grain::Sector => {
            let mut found = newest..=newest;
            for start in (0..WORDS).step_by(PER_SECTOR) {
                let sequence = words[start + 1];
                if let Some(wrong) = (start..start + PER_SECTOR).find(|index| !at(*index, sequence)) {
                    return Err(format!(
                        "sector {} of block {block} (sequence {sequence}) is not whole: word {wrong} is {:#x}",
                        start / PER_SECTOR,
                        words[wrong]
                    ));
                }
                found = *found.start().min(&sequence)..=*found.end().max(&sequence);
            }
            if grain == Grain::Block && found.start() != found.end() {
                return Err(format!("block {block} has sectors of sequences {found:?}"));
            }
            Ok(found)
        }
    }
}

/// What must be there at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// What was written: freezing a filesystem flushes it.
    Written,
    /// What was flushed: the power failed.
    Flushed,
}

/// Between which sequences each block must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds(pub Vec<RangeInclusive<u64>>);

impl Bounds {
    /// The same, with nothing too new.
    #[must_use]
    pub fn or_newer(self) -> Self {
        let ranges = self.0.into_iter();
        Self(ranges.map(|range| *range.start()..=u64::MAX).collect())
    }

    /// As text.
    ///
    /// # Panics
    ///
    /// Never: they are numbers.
    #[must_use]
    pub fn to_text(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|range| (range.start(), range.end())).collect();
        serde_json::to_string(&pairs).expect("they are numbers")
    }

    /// From text.
    ///
    /// # Panics
    ///
    /// When it is none of ours.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let pairs: Vec<(u64, u64)> = serde_json::from_str(text).expect("it is ours");
        Self(pairs.into_iter().map(|(least, most)| least..=most).collect())
    }

    /// Everything that is wrong with a file; the first few things in words.
    #[must_use]
    pub fn wrong(&self, file: &File, grain: Grain) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, range) in self.0.iter().enumerate() {
            let block = number as u64;
            let mut bytes = [0; WORDS * 8];
            if let Err(error) = file.read_exact_at(&mut bytes, block * 4096) {
                wrong.push(format!("block {block} cannot be read: {error}"));
                continue;
            }
            let words = bytes
                .chunks_exact(8)
                .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
            match sequences(&words.collect::<Vec<_>>(), block, grain) {
                Ok(found) if range.contains(found.start()) && range.contains(found.end()) => {}
                Ok(found) => wrong.push(format!("block {block} is {found:?}, and not in {range:?}")),
                Err(error) => wrong.push(error),
            }
        }
        if wrong.len() > 8 {
            let more = format!("and {} blocks more of {}", wrong.len() - 8, self.0.len());
            wrong.truncate(8);
            wrong.push(more);
        }
        wrong
    }
}

/// What a writer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Blocks that it wrote.
    pub writes: u64,
    /// Threads that ended because a write failed.
    pub failed: u64,
    /// Why the last of them did: an errno.
    pub errno: i32,
}

/// A running `sectors`.
pub struct Writer {
    /// The process.
    pub target: Target,
    /// The file.
    pub path: String,
    /// How it writes.
    pub mode: Mode,
}

impl Writer {
    /// Starts one on a new file; every block has been written and flushed once.
    #[must_use]
    pub fn spawn(path: &str, mode: Mode, blocks: u64) -> Self {
        Self {
            target: Target::spawn("sectors", &[path, mode.name(), &blocks.to_string()]),
            path: path.to_owned(),
            mode,
        }
    }

    /// What it says now.
    ///
    /// # Panics
    ///
    /// When it is gone.
    pub fn says(&mut self) -> Said {
        let said = numbers(&self.target.tell("say"));
        Said {
            writes: said["writes"],
            failed: said["failed"],
            errno: i32::try_from(said["errno"]).expect("an errno"),
        }
    }

    /// Waits until it has written so many blocks more.
    ///
    /// # Panics
    ///
    /// When it stands still.
    pub fn goes_on(&mut self, writes: u64) {
        let begin = Instant::now();
        let before = self.says();
        let mut now = before;
        while now.writes < before.writes + writes {
            let waited = begin.elapsed();
            assert!(
                waited < patience(60),
                "the writer of {} stands still: {now:?}",
                self.path
            );
            sleep(Duration::from_millis(10));
            now = self.says();
        }
    }

    /// What its memory says of the disk.
    #[must_use]
    pub fn bounds(&self, memory: &impl Memory, floor: Floor) -> Bounds {
        let blocks = usize::try_from(self.target.at("blocks")).expect("not that many");
        let of = |name| memory.words(self.target.pid(), self.target.at(name), blocks);
        // In this order, for the memory may be a running process's.
        let least = of(match floor {
            Floor::Written => "written",
            Floor::Flushed => "flushed",
        });
        let most = of("begun");
        Bounds(
            least
                .into_iter()
                .zip(most)
                .map(|(least, most)| least..=most)
                .collect(),
        )
    }

    /// What its memory says now.
    #[must_use]
    pub fn live(&self, floor: Floor) -> Bounds {
        self.bounds(&Live, floor)
    }

    /// Has it stop after the writes that it is at, and flush. From then on the file is exactly as returned.
    ///
    /// # Panics
    ///
    /// When a write failed.
    #[must_use]
    pub fn stop(&mut self) -> Bounds {
        let said = numbers(&self.target.tell("stop"));
        assert_eq!((said["failed"], said["errno"]), (0, 0), "{}: {said:?}", self.path);
        let bounds = self.live(Floor::Flushed);
        assert!(bounds.0.iter().all(|range| range.start() == range.end()));
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, sequence: impl Fn(usize) -> u64) -> Vec<u64> {
        (0..WORDS)
            .map(|index| word(number, sequence(index), index))
            .collect()
    }

    #[test]
    fn what_is_whole_is_of_its_sequence() {
        for grain in [Grain::Block, Grain::Sector, Grain::Word] {
            assert_eq!(sequences(&block(3, |_| 7), 3, grain), Ok(7..=7));
            assert!(sequences(&block(3, |_| 7), 4, grain).is_err(), "misplaced");
            assert!(sequences(&[0; WORDS], 3, grain).is_err(), "never written");
        }
    }

    #[test]
    fn torn_blocks_are_seen_at_their_grain() {
        let sectors = block(1, |index| if index < 128 { 9 } else { 5 });
        assert!(sequences(&sectors, 1, Grain::Block).is_err());
        assert_eq!(sequences(&sectors, 1, Grain::Sector), Ok(5..=9));
        assert!(sequences(&sectors, 1, Grain::Word).is_err());
        let words = block(1, |index| if index < 100 { 9 } else { 8 });
        assert!(sequences(&words, 1, Grain::Sector).is_err());
        assert_eq!(sequences(&words, 1, Grain::Word), Ok(8..=9));
    }
}
