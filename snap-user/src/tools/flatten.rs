//! `freezeframe flatten`: an incremental image and its parents, joined into one that needs none.

mod document;
mod joined;
mod share;

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use clap::Args;

use self::joined::{Joined, Part};
use super::input::ImageArgs;
use super::scratch::raise_descriptor_limit;
use super::{ToolError, in_a_thread, print};
use crate::archive::head::head;
use crate::archive::members::MemberWriter;
use crate::archive::read::PIECE_BYTES;
use crate::archive::read::gather::{Depth, Follow, gather};
use crate::exit::Exit;
use crate::output::OutputError;
use crate::stream::compress::Compression;
use crate::stream::encrypt::{Encryption, Recipient};
use crate::stream::options::StreamOptions;
use crate::stream::progress::Progress;
use crate::stream::progress::show::show;
use crate::stream::sink::Destination;
use crate::stream::{Cancel, StreamError, Writer, pipeline};
use crate::take::{Interrupts, keeps_the_image, open};

/// `freezeframe flatten`.
#[derive(Clone, Debug, Args)]
pub struct FlattenArgs {
    /// The incremental image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Write the whole image there: a file that does not exist yet, - for standard output, or an object. The memory is brought together in
    /// files without a name, in the same folder, or in $TMPDIR where it is no file
    #[arg(short, long, value_name = "FILE|-|s3://BUCKET/KEY")]
    pub output: Destination,
    /// Compress the whole image, on all processors; the level is 1 to 19, and 3 by default
    #[arg(long, value_name = "zstd[:LEVEL]|lz4|none", default_value = "none")]
    pub compress: Compression,
    /// Encrypt the whole image to this age recipient (age1…); may be given more than once, and any one of their keys opens it
    #[arg(long, value_name = "RECIPIENT")]
    pub encrypt_to: Vec<Recipient>,
    /// Encrypt the whole image with the passphrase that is the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "encrypt_to")]
    pub output_passphrase_file: Option<PathBuf>,
}

/// Runs the verb. A signal stops it, and nothing is left then.
///
/// # Errors
///
/// When the image or a parent cannot be read or is damaged, or the output cannot be written; nothing of it is left then.
pub async fn run(args: &FlattenArgs) -> anyhow::Result<Exit> {
    // Before the work begins.
    let interrupts = Interrupts::catch()?;
    let (cancel, progress) = (Cancel::new(), Arc::new(Progress::new()));
    let work = flatten(args, Arc::clone(&progress), &cancel);
    tokio::pin!(work);
    let done = tokio::select! {
        done = &mut work => done,
        never = show(|| progress.total().map(|_| progress.snapshot())) => never,
        name = interrupts.wait() => {
            cancel.cancel();
            match work.await {
                Err(error) if !keeps_the_image(&error) => anyhow::bail!("{name}; nothing was written"),
                done => done,
            }
        }
    };
    done?;
    match &args.output {
        Destination::Stdout => {}
        Destination::File(path) => print(&format!("{}\n", path.display()))?,
        Destination::Object(url) => print(&format!("{url}\n"))?,
    }
    Ok(Exit::Ok)
}

/// Writes the joined image.
///
/// # Errors
///
/// As [`run`].
pub async fn flatten(args: &FlattenArgs, progress: Arc<Progress>, cancel: &Cancel) -> anyhow::Result<()> {
    let options = StreamOptions {
        compression: args.compress,
        encryption: Encryption::chosen(&args.encrypt_to, args.output_passphrase_file.as_deref())?,
        rate: None,
    };
    let sink = open(&args.output, &options, cancel).await?; // now, before hours of reading
    let (writer, pipeline) = pipeline(&options, sink, Arc::clone(&progress), cancel.clone());
    let args = args.clone();
    let joining = in_a_thread(move || join(&args, &progress, writer))?;
    match pipeline.await {
        Ok(_) => {}
        // Whoever went away knows why.
        Err(StreamError::Unfinished) => {}
        // It may still read; nobody waits for it.
        Err(error) => return Err(error.into()),
    }
    Ok(joining.await??)
}

/// On a thread that may block.
fn join(args: &FlattenArgs, progress: &Progress, writer: Writer) -> Result<(), ToolError> {
    raise_descriptor_limit();
    let (reader, mut chain) = args.image.open()?;
    let image = args.image.image.to_string();
    if reader.manifest().parent.is_none() {
        return Err(ToolError::Whole(image));
    }
    let folder = scratch_folder(&args.output);
    let mut joined = Joined::new(&image, &folder, reader.manifest_json());
    gather(
        reader,
        Follow::Parents,
        Depth::Needed,
        |parent| chain.open(parent),
        &mut joined,
    )?;
    let done = joined.finish()?;
    progress.set_total(done.cores.iter().map(|core| core.layout.bytes).sum());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let failed = |source| ToolError::Output(OutputError::Stream(source));
    let mut archive = MemberWriter::new(writer, now);
    archive.manifest(&done.manifest).map_err(failed)?;
    for (pid, json) in done.states {
        let mut state = archive.state(pid, json.len() as u64).map_err(failed)?;
        state.put(json).and_then(|()| state.finish()).map_err(failed)?;
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
    let writer = archive.finish().map_err(failed)?;
    writer.finish().map_err(|closed| failed(closed.into()))
}

/// Where there is room for what becomes `output`: beside a file. Where a device is, there is memory.
fn scratch_folder(output: &Destination) -> PathBuf {
    match output {
        Destination::File(path) if path.metadata().is_ok_and(|there| !there.is_file()) => {
            std::env::temp_dir()
        }
        Destination::File(path) => match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        },
        Destination::Stdout | Destination::Object(_) => std::env::temp_dir(),
    }
}

/// Which side of a copy failed.
enum Failed {
    Output(io::Error),
    Scratch(io::Error),
}

fn write_core(archive: &mut MemberWriter<Writer>, core: &Part) -> Result<(), Failed> {
    let mut member = archive
        .core(core.pid, core.layout.bytes)
        .map_err(Failed::Output)?;
    member
        .put(Bytes::from(head(&core.layout.segments, &core.notes())))
        .map_err(Failed::Output)?;
    let mut buffer = BytesMut::new();
    for (offset, bytes) in core.sources() {
        let mut file: &File = &core.file;
        file.seek(io::SeekFrom::Start(offset)).map_err(Failed::Scratch)?;
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::scratch_folder;

    #[test]
    fn memory_is_brought_together_beside_files_alone() {
        let folder = |output: &str| scratch_folder(&output.parse().unwrap());
        assert_eq!(folder("joined.tar"), Path::new("."));
        assert_eq!(folder("/srv/images/joined.tar"), Path::new("/srv/images"));
        for elsewhere in ["/dev/null", "-", "s3://images/joined.tar"] {
            assert_eq!(folder(elsewhere), std::env::temp_dir(), "{elsewhere}");
        }
    }
}
