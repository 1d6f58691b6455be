//! Archives that somebody cut, changed or made up: refused, without a panic, without a write outside the folder, and without memory that
//! nobody's bytes have paid for.

#[path = "../common/mod.rs"]
mod common;
mod flips;
mod heads;
mod manifest;
mod members;
mod references;
mod verbs;

use std::path::Path;

use freezeframe::archive::head::{Segment, head};
use freezeframe::archive::read::gather::{Depth, Follow, Gather, Wanted, gather};
use freezeframe::archive::read::{ArchiveReader, Fault, ReadError, State, read_head};
use freezeframe::tools::input::{ImageArgs, ParentArgs};

/// All that a reader makes of an archive: names and contents.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen(Vec<(i32, Vec<u8>)>);

impl Gather for Seen {
    type Error = ReadError;

    fn state(&mut self, state: State) -> Result<(), ReadError> {
        self.0.push((state.pid, state.json));
        Ok(())
    }

    fn core(
        &mut self,
        pid: i32,
        head: &mut freezeframe::archive::read::core::CoreHead,
    ) -> Result<Wanted, ReadError> {
        let head = format!("{:?}{:?}{:?}", head.segments, head.elsewhere, head.notes);
        self.0.push((pid, head.into_bytes()));
        Ok(Wanted::Yes)
    }

    fn fill(&mut self, pid: i32, vaddr: u64, bytes: &[u8]) -> Result<(), ReadError> {
        self.0.push((pid, [&vaddr.to_le_bytes(), bytes].concat()));
        Ok(())
    }
}

/// Reads `image` to its end, with `parents`.
fn read(image: &[u8], parents: &[&[u8]]) -> Result<Seen, ReadError> {
    let mut seen = Seen::default();
    let mut parents = parents.iter();
    let open = |_: &_| ArchiveReader::new(*parents.next().expect("a parent"), "parent");
    let reader = ArchiveReader::new(image, "image")?;
    gather(reader, Follow::All, Depth::Whole, open, &mut seen)?;
    Ok(seen)
}

fn refused(image: &[u8]) -> String {
    match read(image, &[]) {
        Ok(seen) => panic!("it was taken: {seen:?}"),
        Err(error) => {
            assert!(error.fault.is_damage(), "{error}");
            error.to_string()
        }
    }
}

fn image_args(path: &Path) -> ImageArgs {
    ImageArgs {
        image: path.to_owned().into(),
        parents: ParentArgs::default(),
    }
}

fn head_of(segments: &[Segment], notes: &[u8], bytes: u64) -> Result<(), Fault> {
    read_head(head(segments, notes).as_slice(), bytes).map(|_| ())
}
