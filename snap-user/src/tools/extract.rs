//! `freezeframe extract`: the cores of an image as files that stand alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::input::ImageArgs;
use super::place::{Layout, Placed, find, lay_out};
use super::scratch::{Scratch, raise_descriptor_limit};
use super::{ToolError, print};
use crate::archive::head::{PAGE, head};
use crate::archive::read::State;
use crate::archive::read::core::CoreHead;
use crate::archive::read::gather::{Depth, Follow, Gather, Wanted, gather};
use crate::archive::{core_name, state_name};
use crate::exit::Exit;
use crate::output::OutputError;

/// `freezeframe extract`.
#[derive(Debug, Args)]
pub struct ExtractArgs {
    /// Which image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Only these processes
    #[arg(long = "pid", num_args = 1.., value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pids: Vec<i32>,
    /// Where core.PID and process.PID.json go; what is there is never replaced
    #[arg(short = 'C', long = "directory", value_name = "FOLDER", default_value = ".")]
    pub folder: PathBuf,
}

/// Runs the verb.
///
/// # Errors
///
/// When the image or a parent cannot be read or is damaged, or the files cannot be written; none of them is left then.
pub fn run(args: &ExtractArgs, scratch: &Scratch) -> anyhow::Result<Exit> {
    let names = extract(args, scratch)?;
    let lines: Vec<_> = names
        .iter()
        .map(|name| format!("{}\n", args.folder.join(name).display()))
        .collect();
    print(&lines.concat())?;
    Ok(Exit::Ok)
}

/// Writes the files, and returns their names.
///
/// # Errors
///
/// As [`run`].
pub fn extract(args: &ExtractArgs, scratch: &Scratch) -> Result<Vec<String>, ToolError> {
    raise_descriptor_limit();
    let (reader, mut chain) = args.image.open()?;
    let held: Vec<_> = reader
        .manifest()
        .processes
        .iter()
        .map(|entry| entry.pid)
        .collect();
    if let Some(pid) = args.pids.iter().find(|pid| !held.contains(pid)) {
        return Err(ToolError::NoProcess {
            image: args.image.image.to_string(),
            pid: *pid,
        });
    }
    let mut files = Files {
        folder: &args.folder,
        scratch,
        pids: if args.pids.is_empty() { &held } else { &args.pids },
        names: Vec::new(),
        cores: BTreeMap::new(),
    };
    gather(
        reader,
        Follow::All,
        Depth::Needed,
        |parent| chain.open(parent),
        &mut files,
    )?;
    for core in files.cores.values() {
        // Pages of zeros were left out, also where they are the last. Before, nobody knew whether there are as many as the image says.
        core.file
            .set_len(core.bytes)
            .map_err(|source| failed(&core.path, source))?;
    }
    let names = files.names;
    scratch.finish()?;
    Ok(names)
}

/// The files that are being written.
struct Files<'a> {
    folder: &'a Path,
    scratch: &'a Scratch,
    pids: &'a [i32],
    names: Vec<String>,
    cores: BTreeMap<i32, Core>,
}

struct Core {
    path: PathBuf,
    file: File,
    placed: Vec<Placed>,
    bytes: u64,
}

impl Files<'_> {
    fn create(&mut self, name: String) -> Result<(PathBuf, File), ToolError> {
        let path = self.folder.join(&name);
        let file = self.scratch.create(&path)?;
        self.names.push(name);
        Ok((path, file))
    }
}

impl Gather for Files<'_> {
    type Error = ToolError;

    fn state(&mut self, state: State) -> Result<(), ToolError> {
        if self.pids.contains(&state.pid) {
            let (path, file) = self.create(state_name(state.pid))?;
            file.write_all_at(&state.json, 0)
                .map_err(|source| failed(&path, source))?;
        }
        Ok(())
    }

    fn core(&mut self, pid: i32, core: &mut CoreHead) -> Result<Wanted, ToolError> {
        if !self.pids.contains(&pid) {
            return Ok(Wanted::No);
        }
        let data = core.ranges().map(|range| (range.vaddr, range.bytes));
        let layout = lay_out(&core.segments, data, core.notes.len());
        let (path, file) = self.create(core_name(pid))?;
        file.write_all_at(&head(&layout.segments, &core.notes), 0)
            .map_err(|source| failed(&path, source))?;
        let Layout { placed, bytes, .. } = layout;
        self.cores.insert(
            pid,
            Core {
                path,
                file,
                placed,
                bytes,
            },
        );
        Ok(Wanted::Yes)
    }

    fn fill(&mut self, pid: i32, vaddr: u64, bytes: &[u8]) -> Result<(), ToolError> {
        let Some(core) = self.cores.get(&pid) else {
            return Ok(());
        };
        scatter(&core.file, &core.placed, vaddr, bytes).map_err(|source| failed(&core.path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> ToolError {
    ToolError::Output(OutputError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Writes pages to where they belong. Pages of zeros are left to be holes: the file is new.
pub(super) fn scatter(file: &File, placed: &[Placed], mut vaddr: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let (offset, count) = find(placed, vaddr, bytes.len() as u64)
            .ok_or_else(|| io::Error::other(format!("there is no room for the page at {vaddr:#x}")))?;
        let (part, rest) = bytes.split_at(usize::try_from(count).unwrap_or(bytes.len()).min(bytes.len()));
        write_sparse(file, part, offset)?;
        bytes = rest;
        vaddr += count;
    }
    Ok(())
}

fn write_sparse(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let page_bytes = usize::try_from(PAGE).unwrap_or(4096);
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut at = offset;
    for run in bytes
        .chunks(page_bytes)
        .collect::<Vec<_>>()
        .chunk_by(|a, b| is_zero(a) == is_zero(b))
    {
        let length: usize = run.iter().map(|page| page.len()).sum();
        if !run.first().is_some_and(|page| is_zero(page)) {
            let begin = usize::try_from(at - offset).unwrap_or(usize::MAX);
            file.write_all_at(&bytes[begin..begin + length], at)?;
        }
        at += length as u64;
    }
    Ok(())
}
