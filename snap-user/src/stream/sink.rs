//! Where an archive goes: a file, standard output, a device or a FIFO that exists, an object store.

mod blocking;
mod ready;

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;
use url::Url;

use self::blocking::Blocking;
use self::ready::Ready;
use super::channel::{Flow, Inlet};
use super::encrypt::Encryption;
use super::options::StreamOptions;
use super::progress::{Progress, Stage};
use super::store::{self, Settings, Upload};
use super::{Cancel, Ended, StreamError};
use crate::output::{OutputError, PartialFile};

/// What `-o` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file that must not exist yet, or a device or a FIFO that does.
    File(PathBuf),
    /// An object that must not exist yet.
    Object(Url),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is empty".to_owned()),
            "-" => Ok(Self::Stdout),
            _ => Ok(store::parse(text)?.map_or_else(|| Self::File(text.into()), Self::Object)),
        }
    }
}

/// A place that takes an archive. Dropped before a pipeline has filled it, it leaves nothing behind.
#[derive(Debug)]
pub struct Sink {
    place: Place,
    name: Name,
    /// What becomes the file.
    partial: Option<PartialFile>,
}

/// How it is written to.
#[derive(Debug)]
enum Place {
    /// Files and block devices: a write takes as long as it takes.
    Blocking(Blocking),
    /// Pipes and sockets: whoever reads may never do so.
    Ready(Ready),
    Object(Box<Upload>),
}

/// What errors call it.
#[derive(Clone, Debug)]
enum Name {
    /// A file that is not there yet: what was written of it goes.
    New(PathBuf),
    /// What was there before, and stays.
    Special(PathBuf),
    Stdout,
}

/// How often to look whether somebody reads a FIFO.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Sink {
    /// Claims the place, within a tokio runtime. Called before anything is frozen, so that what cannot be written is refused while it costs
    /// nothing. Of a FIFO, waits until somebody reads it.
    ///
    /// # Errors
    ///
    /// When the place does not take an archive, or has one already.
    pub async fn open(destination: &Destination) -> Result<Self, StreamError> {
        Self::open_with(destination, &Settings::from_env()).await
    }

    /// The same, with an object store of somebody else's.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn open_with(destination: &Destination, settings: &Settings) -> Result<Self, StreamError> {
        match destination {
            Destination::Stdout if io::stdout().is_terminal() => Err(OutputError::Terminal.into()),
            Destination::Stdout => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let place = stdout.and_then(Place::of).map_err(OutputError::Stream)?;
                Ok(Self::new(place, Name::Stdout))
            }
            Destination::File(path) => Ok(Self::open_path(path).await?),
            Destination::Object(url) => {
                let upload = Upload::begin(url, settings).await?;
                Ok(Self::new(
                    Place::Object(Box::new(upload)),
                    Name::New(url.as_str().into()),
                ))
            }
        }
    }

    /// Somebody else's handle to `destination`, who opened it with [`Self::open`] and calls [`Self::finish`] when we have written all.
    ///
    /// # Errors
    ///
    /// When nothing can be streamed into it.
    pub fn descriptor(descriptor: OwnedFd, destination: &Destination) -> Result<Self, StreamError> {
        let name = match destination {
            Destination::File(path) if path.metadata().is_ok_and(|metadata| is_special(&metadata)) => {
                Name::Special(path.clone())
            }
            Destination::File(path) => Name::New(path.clone()),
            Destination::Stdout | Destination::Object(_) => Name::Stdout,
        };
        let place = Place::of(descriptor).map_err(|source| name.failed(source))?;
        Ok(Self::new(place, name))
    }

    /// Refuses what nobody could read back from there: an encrypted image has no end but that of its file, and on a block device whatever
    /// was there before stands behind it.
    ///
    /// # Errors
    ///
    /// When that is so.
    pub fn check(&self, options: &StreamOptions) -> Result<(), StreamError> {
        let Place::Blocking(blocking) = &self.place else {
            return Ok(());
        };
        let handle = blocking.handle().and_then(|handle| File::from(handle).metadata());
        let kind = handle.map_err(|source| self.failed(source))?.file_type();
        if kind.is_block_device() && options.encryption != Encryption::None {
            return Err(self.failed(io::Error::other(
                "whoever reads a block device cannot tell where an encrypted image ends on it; leave it unencrypted, or name a file on a \
                 filesystem",
            )));
        }
        Ok(())
    }

    /// A second handle to the place, for somebody else to write to; `None`: it is no descriptor, and everybody who wants to write to it opens
    /// it.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn handle(&self) -> Result<Option<OwnedFd>, StreamError> {
        let handle = match &self.place {
            Place::Blocking(blocking) => blocking.handle(),
            Place::Ready(ready) => ready.handle(),
            Place::Object(_) => return Ok(None),
        };
        handle.map(Some).map_err(|source| self.failed(source))
    }

    const fn new(place: Place, name: Name) -> Self {
        Self {
            place,
            name,
            partial: None,
        }
    }

    async fn open_path(path: &Path) -> Result<Self, OutputError> {
        let special = path.metadata().ok().filter(is_special);
        let Some(metadata) = special else {
            let partial = PartialFile::create(path)?;
            let place = Place::Blocking(Blocking::new(partial.handle()?));
            return Ok(Self {
                place,
                name: Name::New(path.to_owned()),
                partial: Some(partial),
            });
        };
        let opened = if metadata.file_type().is_fifo() {
            read_by_somebody(path)
                .await
                .map(|pipe| Place::Ready(Ready::Pipe(pipe)))
        } else {
            open_device(path, &metadata).and_then(|device| Place::of(device.into()))
        };
        let name = Name::Special(path.to_owned());
        match opened {
            Ok(place) => Ok(Self::new(place, name)),
            Err(source) => Err(name.failed(source)),
        }
    }

    /// Words an error of writing.
    fn failed(&self, source: io::Error) -> StreamError {
        self.name.failed(source).into()
    }
}

impl Name {
    fn failed(&self, source: io::Error) -> OutputError {
        match self.clone() {
            Self::New(path) => OutputError::Write { path, source },
            Self::Special(path) => OutputError::Device { path, source },
            Self::Stdout => OutputError::Stream(source),
        }
    }
}

/// What is there to be written to, and not to be replaced.
fn is_special(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_char_device() || kind.is_block_device() || kind.is_fifo()
}

/// Opened without a reader, a FIFO would have us wait in the kernel.
async fn read_by_somebody(path: &Path) -> io::Result<pipe::Sender> {
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => tokio::time::sleep(LOOK_EVERY).await,
            opened => return opened,
        }
    }
}

fn open_device(path: &Path, metadata: &Metadata) -> io::Result<File> {
    // A block device that is mounted, or part of another, is refused by the kernel: EBUSY.
    let exclusive = if metadata.file_type().is_block_device() {
        OFlags::EXCL
    } else {
        OFlags::empty()
    };
    let flags = (exclusive | OFlags::NOCTTY).bits();
    let device = File::options()
        .write(true)
        .custom_flags(i32::try_from(flags).unwrap_or(0))
        .open(path)?;
    if device.is_terminal() {
        return Err(io::Error::other("it is a terminal, and an archive is no text"));
    }
    Ok(device)
}

impl Place {
    /// The way to write to whatever a descriptor is of.
    fn of(descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        let kind = file.metadata()?.file_type();
        if kind.is_fifo() {
            return Ok(Self::Ready(Ready::pipe(file.into())?));
        }
        if kind.is_socket() {
            return Ok(Self::Ready(Ready::socket(file.into())?));
        }
        Ok(Self::Blocking(Blocking::new(file)))
    }
}

impl Sink {
    /// How much is to come, where that is known by now: an encryptor begins before the archive is laid out.
    fn expect(&mut self, total: Option<u64>) {
        if let Place::Object(upload) = &mut self.place {
            upload.expect(total);
        }
    }

    /// Takes some. Dropped in the middle, the sink is good for [`Self::abort`] only.
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StreamError> {
        let written = match &mut self.place {
            Place::Blocking(blocking) => blocking.write(pieces).await?,
            Place::Ready(ready) => ready.write(pieces).await,
            Place::Object(upload) => return Ok(upload.write(pieces).await?),
        };
        written.map_err(|source| self.failed(source))
    }

    /// That was all: gives it its name. A pipeline does so by itself; this is for what somebody else wrote. Where it fails, nothing is left
    /// but what [`OutputError::Rename`] names.
    ///
    /// # Errors
    ///
    /// When the place does not take it after all.
    pub async fn finish(mut self) -> Result<(), StreamError> {
        let synced = match &mut self.place {
            Place::Blocking(blocking) => blocking.finish().await?,
            Place::Ready(_) => Ok(()),
            Place::Object(upload) => return Ok(upload.finish().await?),
        };
        synced.map_err(|source| self.failed(source))?;
        if let Some(partial) = self.partial {
            tokio::task::spawn_blocking(|| partial.finish()).await??;
        }
        Ok(())
    }

    /// That will not become an archive.
    async fn abort(mut self) {
        if let Place::Object(upload) = &mut self.place {
            upload.abort().await;
        }
        // A large file takes a while to remove. A panic has been told already.
        let _ = tokio::task::spawn_blocking(|| drop(self.partial)).await;
    }
}

/// As many pieces at once as are there.
const AT_ONCE: usize = 16;

/// Writes until the end of the archive; on any other end leaves nothing. Returns how many bytes are there.
pub(super) async fn run(
    mut sink: Sink,
    inlet: Inlet,
    progress: Arc<Progress>,
    stop: Cancel,
) -> Result<u64, Ended> {
    let filled = tokio::select! {
        filled = fill(&mut sink, inlet, &progress) => filled,
        () = stop.cancelled() => Err(Ended::Neighbour),
    };
    match filled {
        Ok(bytes) => {
            sink.finish().await?;
            Ok(bytes)
        }
        Err(end) => {
            sink.abort().await;
            Err(end)
        }
    }
}

async fn fill(sink: &mut Sink, mut inlet: Inlet, progress: &Progress) -> Result<u64, Ended> {
    let mut written = 0;
    loop {
        let (mut pieces, mut bytes, mut end) = (Vec::new(), 0, false);
        let mut next = Some(inlet.recv().await?);
        while let Some(flow) = next {
            match flow {
                Flow::Piece(piece) => {
                    bytes += piece.len() as u64;
                    pieces.push(piece);
                }
                Flow::End => end = true,
            }
            next = if end || pieces.len() == AT_ONCE {
                None
            } else {
                inlet.try_recv()
            };
        }
        sink.expect(progress.total());
        sink.write(pieces).await?;
        progress.advance(Stage::Write, bytes);
        written += bytes;
        if end {
            return Ok(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Destination;

    #[test]
    fn destinations_are_told_apart() {
        assert_eq!("-".parse(), Ok(Destination::Stdout));
        for path in ["a.tar", "/dev/null", "./s3://x", "a:b"] {
            assert_eq!(path.parse(), Ok(Destination::File(path.into())));
        }
        let object = "s3://images/a/b.tar".parse().unwrap();
        assert_eq!("s3://images/a/b.tar".parse(), Ok(Destination::Object(object)));
        for wrong in [
            "",
            "s3://",
            "s3://images",
            "s3://images/",
            "s3://images/a/",
            "gs://images/a",
            "http://x/y",
        ] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }
}
