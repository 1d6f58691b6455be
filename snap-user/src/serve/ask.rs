//! The client's side of the daemon's socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::PoisonError;

use anyhow::Context as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;

use super::wire::{Answer, Question, REQUEST_BYTES, TakeQuestion};
use crate::drain::Drain;
use crate::exit::DaemonError;
use crate::report::Report;
use crate::stream::sink::Destination;
use crate::stream::store::Settings;
use crate::stream::{Cancel, StreamError};
use crate::take::{Job, Seeing, Seen, open};

const NONSENSE: &str = "the daemon's answer makes no sense: is it of another version?";

/// Asks the daemon at `socket` for a snapshot whose archive goes to `destination`. `None`: there is no daemon.
///
/// # Errors
///
/// When the daemon refuses or fails, or goes away meanwhile, or it is cancelled.
pub(crate) async fn ask(
    socket: &Path,
    job: &Job,
    drain: &Drain,
    destination: Option<&Destination>,
    cancel: &Cancel,
    far: &Seeing,
) -> anyhow::Result<Option<Report>> {
    let Some(stream) = connect(socket).await else {
        return Ok(None);
    };
    // What we can write to is ours to open, and to be put away when this fails.
    let (sink, store) = match destination {
        Some(Destination::Object(_)) => (None, Settings::from_env()),
        Some(destination) => (
            Some(open(destination, &drain.stream, cancel).await?),
            Settings::default(),
        ),
        None => (None, Settings::default()),
    };
    let question = Question::Take(Box::new(TakeQuestion {
        targets: job.targets.clone().without_us(),
        how: job.how,
        disk: job.disk.clone(),
        drain: drain.clone(),
        destination: destination.cloned(),
        store,
    }));
    let handle = match &sink {
        Some(sink) => sink.handle()?,
        None => None,
    };
    send(&stream, &question, handle.as_ref().map(|handle| handle.as_fd())).await?;
    drop(handle);
    match hear(stream, cancel, far).await? {
        Answer::Report(report) => {
            if let Some(sink) = sink {
                sink.finish().await?;
            }
            Ok(Some(*report))
        }
        Answer::Error { message, exit } => Err(DaemonError { message, exit }.into()),
        Answer::Progress(_) | Answer::Cancelled => anyhow::bail!(NONSENSE),
    }
}

/// Tells the daemon to end a snapshot that is being written.
///
/// # Errors
///
/// When there is no daemon, or no such snapshot.
pub async fn cancel(socket: &Path, snapshot: u64) -> anyhow::Result<()> {
    let stream = connect(socket).await.with_context(|| {
        format!(
            "no daemon answers on {}; a take that runs without one is stopped by Ctrl-C, or by SIGTERM to its process",
            socket.display()
        )
    })?;
    send(&stream, &Question::Cancel(snapshot), None).await?;
    match hear(stream, &Cancel::new(), &Seeing::default()).await? {
        Answer::Cancelled => Ok(()),
        Answer::Error { message, exit } => Err(DaemonError { message, exit }.into()),
        _ => anyhow::bail!(NONSENSE),
    }
}

async fn connect(socket: &Path) -> Option<UnixStream> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                tell!("no daemon answers on {}", socket.display());
            }
            None
        }
    }
}

async fn send(
    stream: &UnixStream,
    question: &Question,
    descriptor: Option<BorrowedFd<'_>>,
) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    anyhow::ensure!(
        line.len() <= REQUEST_BYTES,
        "too many processes for one request to the daemon"
    );
    let sent = stream
        .async_io(Interest::WRITABLE, || send_message(stream, &line, descriptor))
        .await;
    anyhow::ensure!(
        sent.context("cannot send to the daemon")? == line.len(),
        "the daemon took only a part of the request"
    );
    Ok(())
}

fn send_message(stream: &UnixStream, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptor.as_slice())) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(sendmsg(
        stream,
        &[IoSlice::new(line)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

/// Waits for the last answer. When it is cancelled, the daemon sees us go.
async fn hear(stream: UnixStream, cancel: &Cancel, far: &Seeing) -> anyhow::Result<Answer> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line.context("cannot hear the daemon")?,
            () = cancel.cancelled() => return Err(StreamError::Cancelled.into()),
        };
        let line = line.context("the daemon went away; whatever it had frozen is thawed")?;
        match serde_json::from_str(&line).context(NONSENSE)? {
            Answer::Progress(now) => {
                *far.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen::There(*now));
            }
            answer => return Ok(answer),
        }
    }
}
