//! Whole archives. Sums are set right before they are read, so that what is behind them is reached, too.

#![no_main]

use std::collections::BTreeMap;

use freezeframe::archive::read::core::CoreHead;
use freezeframe::archive::read::gather::{Depth, Follow, Gather, Wanted, gather};
use freezeframe::archive::read::{ArchiveReader, ReadError, State};
use freezeframe::tools::place::{Placed, find, lay_out};
use libfuzzer_sys::fuzz_target;

/// The parent of whatever comes.
static BASE: &[u8] = include_bytes!("../seeds/archive/base.tar");

#[derive(Default)]
struct Cores(BTreeMap<i32, Vec<Placed>>);

impl Gather for Cores {
    type Error = ReadError;

    fn state(&mut self, _: State) -> Result<(), ReadError> {
        Ok(())
    }

    fn core(&mut self, pid: i32, head: &mut CoreHead) -> Result<Wanted, ReadError> {
        let data = head.ranges().map(|range| (range.vaddr, range.bytes));
        let layout = lay_out(&head.segments, data, head.notes.len());
        self.0.insert(pid, layout.placed);
        Ok(Wanted::Yes)
    }

    fn fill(&mut self, pid: i32, mut vaddr: u64, bytes: &[u8]) -> Result<(), ReadError> {
        assert!(bytes.len() % 4096 == 0, "whole pages");
        let placed = self.0.get(&pid).expect("a core that was announced");
        let mut left = bytes.len() as u64;
        while left != 0 {
            let (_, count) = find(placed, vaddr, left).expect("pages that have a place");
            vaddr += count;
            left -= count;
        }
        Ok(())
    }
}

fn read(archive: &[u8]) {
    let Ok(reader) = ArchiveReader::new(archive, "image") else {
        return;
    };
    let open = |_: &_| ArchiveReader::new(BASE, "base");
    let _ = gather(reader, Follow::All, Depth::Needed, open, &mut Cores::default());
}

/// Sets the sums of the headers and BLAKE3SUMS right, as far as there are members.
fn mend(archive: &mut [u8]) {
    let mut sums = String::new();
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + 512) {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let Some(bytes) = header
            .entry_size()
            .ok()
            .and_then(|bytes| usize::try_from(bytes).ok())
        else {
            return;
        };
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let begin = at + 512;
        let Some(content) = begin
            .checked_add(bytes)
            .and_then(|end| archive.get_mut(begin..end))
        else {
            return;
        };
        if name == "BLAKE3SUMS" {
            if content.len() == sums.len() {
                content.copy_from_slice(sums.as_bytes());
            }
            return;
        }
        sums += &format!("{}  {name}\n", blake3::hash(content));
        at = begin + bytes.next_multiple_of(512);
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    read(&mended);
});
