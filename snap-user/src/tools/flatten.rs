//! `freezeframe flatten`: an incremental image and its parents, joined into one that needs none.

mod document;
mod joined;
mod share;

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use clap::Args;

use self::joined::{Joined, Part};
use super::input::{self, Chain, ImageArgs};
use super::scratch::{Scratch, raise_descriptor_limit};
use super::{ToolError, print};
use crate::archive::head::head;
use crate::archive::members::{MemberWriter, ToWriter};
use crate::archive::read::PIECE_BYTES;
use crate::archive::read::gather::{Depth, Follow, gather};
use crate::exit::Exit;
use crate::output::OutputError;

/// `freezeframe flatten`.
#[derive(Debug, Args)]
pub struct FlattenArgs {
    /// The incremental image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Write the whole image there; what is there is never replaced. The memory is brought together in a file without a name in the same
    /// folder
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Runs the verb.
///
/// # Errors
///
/// When the image or a parent cannot be read or is damaged, or the output cannot be written; nothing of it is left then.
pub fn run(args: &FlattenArgs, scratch: &Scratch) -> anyhow::Result<Exit> {
    flatten(args, scratch)?;
    print(&format!("{}\n", args.output.display()))?;
    Ok(Exit::Ok)
}

/// Writes the joined image.
///
/// # Errors
///
/// As [`run`].
pub fn flatten(args: &FlattenArgs, scratch: &Scratch) -> Result<(), ToolError> {
    raise_descriptor_limit();
    let reader = input::reader(&args.image.image, &args.image.parents.keys)?;
    let image = args.image.image.to_string();
    if reader.manifest().parent.is_none() {
        return Err(ToolError::Whole(image));
    }
    let failed = |source| {
        ToolError::Output(OutputError::Write {
            path: args.output.clone(),
            source,
        })
    };
    let output = scratch.create(&args.output)?; // now, before hours of reading
    let mut chain = Chain::new(&args.image.image, &args.image.parents);
    let folder = match args.output.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut joined = Joined::new(&image, &folder, reader.manifest_json());
    gather(
        reader,
        Follow::Parents,
        Depth::Needed,
        |parent| chain.open(parent),
        &mut joined,
    )?;
    let done = joined.finish()?;
    let mut output = BufWriter::with_capacity(PIECE_BYTES, output);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut archive = MemberWriter::new(ToWriter(&mut output), now);
    archive.manifest(&done.manifest).map_err(failed)?;
    for (pid, json) in done.states {
        archive.state(pid, json).map_err(failed)?;
    }
    for core in done.cores {
        write_core(&mut archive, &core).map_err(|error| match error {
            Failed::Output(source) => failed(source),
            Failed::Scratch(cause) => ToolError::Scratch {
                folder: folder.clone(),
                cause,
            },
        })?;
    }
    archive.finish().map_err(failed)?;
    output.flush().map_err(failed)?;
    drop(output);
    Ok(scratch.finish()?)
}

/// Which side of a copy failed.
enum Failed {
    Output(std::io::Error),
    Scratch(std::io::Error),
}

fn write_core<W: Write>(archive: &mut MemberWriter<ToWriter<W>>, core: &Part) -> Result<(), Failed> {
    let mut member = archive
        .core(core.pid, core.layout.bytes)
        .map_err(Failed::Output)?;
    member
        .put(Bytes::from(head(&core.layout.segments, &core.notes)))
        .map_err(Failed::Output)?;
    let mut buffer = BytesMut::new();
    for (offset, bytes) in core.sources() {
        let mut file: &File = &core.file;
        file.seek(std::io::SeekFrom::Start(offset))
            .map_err(Failed::Scratch)?;
        let mut left = bytes;
        while left != 0 {
            let count = usize::try_from(left.min(PIECE_BYTES as u64)).unwrap_or(PIECE_BYTES);
            buffer.resize(count, 0);
            file.read_exact(&mut buffer).map_err(Failed::Scratch)?;
            member.put(buffer.split().freeze()).map_err(Failed::Output)?;
            left -= count as u64;
        }
    }
    member.finish().map_err(Failed::Output)
}
