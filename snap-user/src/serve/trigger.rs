//! Snapshots on request: one JSON line over the Unix socket, with the descriptor of the output beside it; one JSON
//! line back. A client that goes away ends its snapshot.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::tracing::Tracing;
use crate::disk::ask::Wish;
use crate::exit::{DaemonError, Exit};
use crate::how::How;
use crate::metrics::Metrics;
use crate::processes::Targets;
use crate::report::Report;
use crate::take::{Job, perform};

/// A request fits into one message; more is refused.
const REQUEST_BYTES: usize = 64 * 1024;

/// What the client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    targets: Targets,
    how: How,
    #[serde(default)]
    disk: Wish,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The snapshot was taken, and the archive is written.
    Report(Box<Report>),
    /// It failed.
    Error {
        /// Why.
        message: String,
        /// The exit code for it.
        exit: u8,
    },
}

/// Asks the daemon at `socket` for a snapshot whose archive goes to `output`. `None`: there is no daemon.
///
/// # Errors
///
/// When the daemon refuses or fails, or goes away meanwhile.
pub async fn ask(socket: &Path, job: &Job, output: Option<&File>) -> anyhow::Result<Option<Report>> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                eprintln!(
                    "freezeframe: no daemon answers on {}; using the device itself",
                    socket.display()
                );
            }
            return Ok(None);
        }
    };
    let question = Question {
        targets: job.targets.clone().without_us(),
        how: job.how,
        disk: job.disk.clone(),
    };
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    anyhow::ensure!(
        line.len() <= REQUEST_BYTES,
        "too many processes for one request to the daemon"
    );
    let sent = stream
        .async_io(Interest::WRITABLE, || send(&stream, &line, output))
        .await;
    anyhow::ensure!(
        sent.context("cannot send to the daemon")? == line.len(),
        "the daemon took only a part of the request"
    );
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .await
        .context("cannot hear the daemon")?;
    anyhow::ensure!(
        !answer.is_empty(),
        "the daemon went away; whatever it had frozen is thawed"
    );
    match serde_json::from_str(&answer)
        .context("the daemon's answer makes no sense: is it of another version?")?
    {
        Answer::Report(report) => Ok(Some(*report)),
        Answer::Error { message, exit } => Err(DaemonError { message, exit }.into()),
    }
}

fn send(stream: &UnixStream, line: &[u8], output: Option<&File>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = output.map(AsFd::as_fd);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors.as_slice())) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(sendmsg(
        stream,
        &[IoSlice::new(line)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

fn receive(stream: &UnixStream, line: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        stream,
        &mut [IoSliceMut::new(line)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((got.bytes, descriptor))
}

/// The listening side.
pub(super) struct Trigger {
    listener: UnixListener,
    path: PathBuf,
    device: PathBuf,
    metrics: Arc<Metrics>,
    tracing: Tracing,
}

impl Trigger {
    /// Listens at `path`; a socket that nobody answers on any more is replaced.
    pub(super) fn bind(
        path: &Path,
        device: PathBuf,
        metrics: Arc<Metrics>,
        tracing: Tracing,
    ) -> anyhow::Result<Self> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "another daemon answers on {}; stop it, or choose another --socket",
                path.display()
            );
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path)
            .and_then(|listener| {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(listener)
            })
            .with_context(|| {
                format!(
                    "cannot listen on {}; choose another path with --socket",
                    path.display()
                )
            })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            device,
            metrics,
            tracing,
        })
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(&self) -> anyhow::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await.context("cannot accept a request")?;
            let (device, metrics, tracing) = (
                self.device.clone(),
                Arc::clone(&self.metrics),
                self.tracing.clone(),
            );
            tokio::spawn(async move {
                if let Err(error) = converse(stream, device, &metrics, &tracing).await {
                    eprintln!("freezeframe: a request failed: {error:#}");
                }
            });
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("freezeframe: cannot remove {}: {error}", self.path.display());
        }
    }
}

async fn converse(
    mut stream: UnixStream,
    device: PathBuf,
    metrics: &Metrics,
    tracing: &Tracing,
) -> anyhow::Result<()> {
    let mut line = vec![0; REQUEST_BYTES];
    let (length, output) = stream
        .async_io(Interest::READABLE, || receive(&stream, &mut line))
        .await?;
    if length == 0 {
        return Ok(()); // somebody looked whether we are here
    }
    let answer = tokio::select! {
        answer = answer(&line[..length], output, device, metrics, tracing) => answer,
        () = gone(&stream) => {
            metrics.observe_error();
            anyhow::bail!("the client went away; its snapshot is released");
        }
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    Ok(stream.write_all(&text).await?)
}

/// Waits until the other side has closed; it has nothing more to say.
async fn gone(stream: &UnixStream) {
    loop {
        let mut byte = [0];
        match stream.readable().await.and_then(|()| stream.try_read(&mut byte)) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

async fn answer(
    line: &[u8],
    output: Option<OwnedFd>,
    device: PathBuf,
    metrics: &Metrics,
    tracing: &Tracing,
) -> Answer {
    let question: Question = match serde_json::from_slice(line) {
        Ok(question) => question,
        Err(error) => {
            return Answer::Error {
                message: format!("the request makes no sense: {error}"),
                exit: Exit::Usage as u8,
            };
        }
    };
    let job = Job {
        device,
        targets: question.targets,
        how: question.how,
        disk: question.disk,
    };
    // What cannot be listed is told by the take itself.
    let _watch = tracing.watch(&job.targets.pids().unwrap_or_default());
    // From before the switch on, so that no write is missed.
    let stores = job.disk.store.as_ref().map(|_| tracing.watch_stores());
    match perform(&job, output.map(File::from)).await {
        Ok(report) => {
            if let Some(stores) = stores {
                stores.hand_over();
            }
            metrics.observe(&report);
            Answer::Report(Box::new(report))
        }
        Err(error) => {
            metrics.observe_error();
            Answer::Error {
                message: format!("{error:#}"),
                exit: Exit::of(&error) as u8,
            }
        }
    }
}
