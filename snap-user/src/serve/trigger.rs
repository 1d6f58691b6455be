//! Snapshots on request: the daemon's side of its socket.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::MissedTickBehavior;

use super::drains::Drains;
use super::tracing::Tracing;
use super::wire::{Answer, Question, REQUEST_BYTES, TakeQuestion};
use crate::exit::Exit;
use crate::metrics::Metrics;
use crate::processes::Targets;
use crate::stream::Cancel;
use crate::stream::progress::Progress;
use crate::stream::sink::{Destination, Sink};
use crate::take::{Job, perform};
use crate::words::causes;

/// How often a client hears how far its image is.
const TELL_EVERY: Duration = Duration::from_millis(250);

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

/// What every request needs.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) device: PathBuf,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tracing: Tracing,
    pub(super) drains: Drains,
}

/// The listening side.
pub(super) struct Trigger {
    listener: UnixListener,
    path: PathBuf,
    shared: Shared,
}

impl Trigger {
    /// Listens at `path`; a socket that nobody answers on any more is replaced.
    pub(super) fn bind(path: &Path, shared: Shared) -> anyhow::Result<Self> {
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
            shared,
        })
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(&self) -> anyhow::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await.context("cannot accept a request")?;
            let shared = self.shared.clone();
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &shared).await {
                    tell!("a request failed: {}", causes(&error));
                }
            });
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tell!("cannot remove {}: {error}", self.path.display());
        }
    }
}

async fn converse(stream: UnixStream, shared: &Shared) -> anyhow::Result<()> {
    let mut line = vec![0; REQUEST_BYTES];
    let (length, output) = stream
        .async_io(Interest::READABLE, || receive(&stream, &mut line))
        .await?;
    if length == 0 {
        return Ok(()); // somebody looked whether we are here
    }
    let (mut from, mut to) = stream.into_split();
    let answer = match serde_json::from_slice(&line[..length]) {
        Ok(Question::Take(question)) => {
            let cancel = Cancel::new();
            let far = Far::default();
            let work = async {
                let work = answer(*question, output, shared, &cancel, &far);
                tokio::pin!(work);
                tokio::select! {
                    answer = &mut work => Some(answer),
                    () = gone(&mut from) => {
                        // What it has begun is put away before we say so.
                        cancel.cancel();
                        drop(work.await);
                        None
                    }
                }
            };
            telling(&mut to, &far, work)
                .await
                .context("the client went away; its snapshot is released")?
        }
        Ok(Question::Cancel(snapshot)) if shared.drains.cancel(snapshot) => Answer::Cancelled,
        Ok(Question::Cancel(snapshot)) => Answer::Error {
            message: format!("the daemon writes no image of a snapshot {snapshot}"),
            exit: Exit::Failure as u8,
        },
        Err(error) => Answer::Error {
            message: format!("the request makes no sense: {error}; is the daemon of another version?"),
            exit: Exit::Usage as u8,
        },
    };
    say(&mut to, &answer).await
}

/// Where the answer to a client says how far its image is.
type Far = Mutex<Option<Arc<Progress>>>;

/// Does the work, and tells the client meanwhile how far it is. A client that does not read (it may be stopped) misses some of that, and
/// holds up nothing: what is being told to it is told to its end once the work is done.
async fn telling<T>(to: &mut (impl AsyncWrite + Unpin), far: &Far, work: impl Future<Output = T>) -> T {
    let done = Cancel::new();
    let tell = async {
        let mut tick = tokio::time::interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = done.cancelled() => return,
                _ = tick.tick() => {}
            }
            let far = far.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(far) = far {
                // Who does not listen has gone, and is noticed elsewhere.
                let _ = say(to, &Answer::Progress(Box::new(far.snapshot()))).await;
            }
        }
    };
    let work = async {
        let came = work.await;
        done.cancel();
        came
    };
    tokio::join!(work, tell).0
}

async fn say(to: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    Ok(to.write_all(&text).await?)
}

/// Waits until the other side has closed; it has nothing more to say.
async fn gone(from: &mut OwnedReadHalf) {
    let mut byte = [0];
    while matches!(from.read(&mut byte).await, Ok(1..)) {}
}

async fn answer(
    question: TakeQuestion,
    output: Option<OwnedFd>,
    shared: &Shared,
    cancel: &Cancel,
    far: &Far,
) -> Answer {
    let job = Job {
        device: shared.device.clone(),
        targets: question.targets,
        how: question.how,
        disk: question.disk,
    };
    let pids = job.targets.pids().unwrap_or_default();
    // What cannot be listed is told by the take itself.
    let _watch = shared.tracing.watch(&pids);
    // From before the switch on, so that no write is missed.
    let stores = job.disk.store.as_ref().map(|_| shared.tracing.watch_stores());
    let named = match &job.targets {
        Targets::Pids(pids) => pids.clone(),
        Targets::Everyone { .. } => Vec::new(),
    };
    let draining = |snapshot: u64, progress: &Arc<Progress>, cancel: &Cancel| {
        *far.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(progress));
        shared
            .drains
            .list(snapshot, named, Arc::clone(progress), cancel.clone())
    };
    let sink = match (&question.destination, output) {
        (Some(destination @ Destination::Object(_)), _) => {
            Sink::open_with(destination, &question.store).await.map(Some)
        }
        (Some(destination), Some(output)) => Sink::descriptor(output, destination).map(Some),
        _ => Ok(None),
    };
    let done = match sink {
        Ok(sink) => perform(&job, sink, &question.drain, cancel, draining).await,
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(report) => {
            if let Some(stores) = stores {
                stores.hand_over();
            }
            shared.metrics.observe(&report);
            Answer::Report(Box::new(report))
        }
        Err(error) => {
            shared.metrics.observe_error();
            Answer::Error {
                message: causes(&error),
                exit: Exit::of(&error) as u8,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::sync::oneshot;

    use super::{Answer, Far, TELL_EVERY, say, telling};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_holds_up_nothing() {
        let (mut to, mut client) = tokio::io::duplex(100);
        let far = Far::new(Some(Arc::default()));
        let (sender, done) = oneshot::channel();
        let conversation = tokio::spawn(async move {
            let work = async {
                tokio::time::sleep(10 * TELL_EVERY).await;
                sender.send(()).unwrap();
            };
            telling(&mut to, &far, work).await;
            say(&mut to, &Answer::Cancelled).await.unwrap();
        });
        let clock = tokio::time::timeout(Duration::from_secs(60), done);
        clock.await.expect("the work waits for the client").unwrap();
        // What it was being told is whole all the same, and the answer stands behind it.
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        conversation.await.unwrap();
        let answers: Vec<Answer> = heard
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(
            matches!(answers[..], [Answer::Progress(_), Answer::Cancelled]),
            "{answers:?}"
        );
    }
}
