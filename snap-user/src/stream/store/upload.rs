//! An upload in parts. The object appears when all parts are there and the upload is completed; until then there is none.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::{MultipartId, ObjectStoreExt as _, PutPayload};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use url::Url;

use super::{Object, ObjectError, Purpose, Settings};

/// A part, as long as they suffice. S3 takes none below 5 MiB but the last.
const PART_BYTES: u64 = 8 << 20;
/// S3 takes none above 5 GiB, and a part may be a piece larger than it is meant to be.
const MOST_PART_BYTES: u64 = 4 << 30;
/// Parts on their way at once.
const IN_FLIGHT: usize = 2;
/// An upload that cannot be aborted in this time, or whose begin the store does not confirm, is left to it.
const ABORT: Duration = Duration::from_secs(10);

/// S3's code for a header that a store knows nothing of.
const UNKNOWN_CONDITION: &str = "<Code>NotImplemented</Code>";

/// An object on its way. Dropped before it is finished, it is aborted.
#[derive(Debug)]
pub struct Upload {
    object: Arc<Object>,
    client: Arc<AmazonS3>,
    /// `None`: completed or aborted.
    id: Option<MultipartId>,
    runtime: Handle,
    parts: Parts,
    /// The part that is being filled.
    filling: Vec<Bytes>,
    filled: u64,
    /// How many parts there are, on their way or done.
    count: usize,
    in_flight: JoinSet<object_store::Result<(usize, PartId)>>,
    done: Vec<(usize, PartId)>,
}

impl Upload {
    /// Claims an object that does not exist yet, in a tokio runtime.
    ///
    /// # Errors
    ///
    /// When it exists, or the store does not let us.
    pub async fn begin(url: &Url, settings: &Settings) -> Result<Self, ObjectError> {
        let object = Arc::new(Object::new(url, settings)?);
        let client = object.client(Purpose::Write)?;
        refuse_existing(&object, &client).await?;
        let id = Creating::begin(&object)?.id().await?;
        Ok(Self {
            object,
            client: Arc::new(client),
            id: Some(id),
            runtime: Handle::current(),
            parts: Parts::UNKNOWN,
            filling: Vec::new(),
            filled: 0,
            count: 0,
            in_flight: JoinSet::new(),
            done: Vec::new(),
        })
    }

    /// How much is to come, where that is known: parts are as large as that needs.
    pub(in crate::stream) fn expect(&mut self, total: Option<u64>) {
        self.parts = total.map_or(Parts::UNKNOWN, Parts::of);
    }

    /// Takes some, and waits while enough is on its way.
    pub(in crate::stream) async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), ObjectError> {
        for piece in pieces {
            self.filled += piece.len() as u64;
            self.filling.push(piece);
            if self.filled >= self.parts.size(self.count) {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    async fn send_part(&mut self) -> Result<(), ObjectError> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.part_arrived().await?;
        }
        let payload = PutPayload::from_iter(self.filling.drain(..));
        self.filled = 0;
        let (client, object, number) = (Arc::clone(&self.client), Arc::clone(&self.object), self.count);
        let id = self.id.clone().unwrap_or_default();
        self.count += 1;
        self.in_flight.spawn_on(
            async move {
                let part = client.put_part(&object.path, &id, number, payload).await?;
                Ok((number, part))
            },
            &self.runtime,
        );
        Ok(())
    }

    async fn part_arrived(&mut self) -> Result<(), ObjectError> {
        match self.in_flight.join_next().await {
            Some(Ok(Ok(part))) => {
                self.done.push(part);
                Ok(())
            }
            Some(Ok(Err(source))) => Err(self.failed(source)),
            Some(Err(error)) => Err(self.failed(error.into())),
            None => Ok(()),
        }
    }

    fn failed(&self, source: object_store::Error) -> ObjectError {
        self.object.not_written(source)
    }

    /// Makes the object of its parts. Where that fails, aborts.
    pub(in crate::stream) async fn finish(&mut self) -> Result<(), ObjectError> {
        let finished = self.complete().await;
        if finished.is_err() {
            self.abort().await;
        }
        finished
    }

    async fn complete(&mut self) -> Result<(), ObjectError> {
        // An object has one part at least, and that may be empty.
        if self.filled > 0 || self.count == 0 {
            self.send_part().await?;
        }
        while !self.in_flight.is_empty() {
            self.part_arrived().await?;
        }
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable_by_key(|(number, _)| *number);
        let parts: Vec<_> = done.into_iter().map(|(_, part)| part).collect();
        let Some(id) = self.id.clone() else { return Ok(()) };
        let completed = self.complete_if_new(&id, parts).await;
        if completed.is_ok() {
            self.id = None;
        }
        completed
    }

    /// Somebody may have taken the name since we looked. Some stores know no conditions: of those, some ignore this one, so we look again,
    /// and some refuse it.
    async fn complete_if_new(&self, id: &MultipartId, parts: Vec<PartId>) -> Result<(), ObjectError> {
        let object = &self.object;
        refuse_existing(object, &self.client).await?;
        let conditional = object.client(Purpose::WriteNew)?;
        let completed = conditional
            .complete_multipart(&object.path, id, parts.clone())
            .await;
        let completed = match completed {
            Err(error) if error.to_string().contains(UNKNOWN_CONDITION) => {
                self.client.complete_multipart(&object.path, id, parts).await
            }
            completed => completed,
        };
        match completed {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Err(ObjectError::Exists(object.url.to_string()))
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Forgets what was uploaded.
    pub(in crate::stream) async fn abort(&mut self) {
        self.in_flight.shutdown().await;
        self.filling.clear();
        if let Some(id) = self.id.take() {
            abort(&self.client, &self.object, &id).await;
        }
    }
}

async fn refuse_existing(object: &Object, client: &AmazonS3) -> Result<(), ObjectError> {
    match client.head(&object.path).await {
        Ok(_) => Err(ObjectError::Exists(object.url.to_string())),
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(source) => Err(object.not_written(source)),
    }
}

async fn abort(client: &AmazonS3, object: &Object, id: &MultipartId) {
    let aborted = tokio::time::timeout(ABORT, client.abort_multipart(&object.path, id)).await;
    let why = match aborted {
        // It is gone already.
        Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the store does not answer".to_owned(),
    };
    tell!(
        "cannot abort the upload of {}: {why}; there is no object, but the store keeps the parts of upload {id} until they are \
         aborted there, or a rule of the bucket's does so",
        object.url
    );
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        self.in_flight.abort_all();
        abort_aside(&self.object, id);
    }
}

/// Does something of an upload where nothing can be awaited, or where the runtime may be about to end: on a thread, with another one.
fn aside<T: Send + 'static>(
    work: impl Future<Output = Result<T, ObjectError>> + Send + 'static,
) -> Result<JoinHandle<Result<T, ObjectError>>, ObjectError> {
    let run = || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.map_err(ObjectError::Thread)?.block_on(work)
    };
    let thread = std::thread::Builder::new().name("upload".to_owned()).spawn(run);
    thread.map_err(ObjectError::Thread)
}

fn abort_aside(object: &Arc<Object>, id: MultipartId) {
    let started = object.client(Purpose::Write).and_then(|client| {
        let object = Arc::clone(object);
        aside(async move {
            abort(&client, &object, &id).await;
            Ok(())
        })
    });
    // A panic has been told already.
    let aborted = started.and_then(|thread| thread.join().unwrap_or(Ok(())));
    if let Err(error) = aborted {
        tell!("cannot abort the upload of {}: {error}", object.url);
    }
}

/// An upload that the store is making. It may be there as soon as it is asked for, and its id is known when the answer comes: so that is
/// waited for aside, and where nobody wants the upload any more, it is aborted then.
struct Creating {
    object: Arc<Object>,
    thread: Option<JoinHandle<Result<Option<MultipartId>, ObjectError>>>,
    /// Closes when the thread is done; closed by us, it tells the thread that nobody waits any more.
    waiting: oneshot::Receiver<Infallible>,
}

impl Creating {
    fn begin(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let client = object.client(Purpose::Write)?;
        let (mut sender, waiting) = oneshot::channel();
        let given_up = async move {
            sender.closed().await;
            tokio::time::sleep(ABORT).await;
        };
        let asked = Arc::clone(object);
        let thread = aside(async move {
            tokio::select! {
                made = client.create_multipart(&asked.path) => match made {
                    Ok(id) => Ok(Some(id)),
                    Err(source) => Err(asked.not_written(source)),
                },
                () = given_up => {
                    tell!(
                        "the store does not say whether it has begun an upload of {}; if so, it keeps that, without any \
                         part, until it is aborted there, or a rule of the bucket's does so",
                        asked.url
                    );
                    Ok(None)
                }
            }
        })?;
        Ok(Self {
            object: Arc::clone(object),
            thread: Some(thread),
            waiting,
        })
    }

    async fn id(mut self) -> Result<MultipartId, ObjectError> {
        // Nothing is ever sent.
        let _ = (&mut self.waiting).await;
        let lost = || ObjectError::Thread(io::Error::other("it panicked"));
        self.join()?.ok_or_else(lost)
    }

    fn join(&mut self) -> Result<Option<MultipartId>, ObjectError> {
        let thread = self.thread.take();
        thread.map_or(Ok(None), |thread| thread.join().unwrap_or(Ok(None)))
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.waiting.close();
        if let Ok(Some(id)) = self.join() {
            abort_aside(&self.object, id);
        }
    }
}

/// How large parts are, so that S3's 10,000 suffice for whatever comes, and no larger than that needs: they are kept in memory.
#[derive(Clone, Copy, Debug)]
struct Parts {
    first: u64,
    /// So many are as the first.
    steady: usize,
    /// From there on, they double every so many.
    step: usize,
}

impl Parts {
    /// The first 8 GiB of an unknown size go in parts of 8 MiB, up to 24 GiB in parts of 16 MiB, and so on: up to 5 TiB, the most that S3
    /// takes.
    const UNKNOWN: Self = Self {
        first: PART_BYTES,
        steady: 0,
        step: 1_000,
    };

    /// Up to 70 GiB in parts of 8 MiB, and with some left for what is larger than it was said to be.
    fn of(total: u64) -> Self {
        Self {
            first: PART_BYTES.max(total.div_ceil(9_000).next_multiple_of(1 << 20)),
            steady: 9_000,
            step: 100,
        }
    }

    fn size(self, number: usize) -> u64 {
        let doubled = number.saturating_sub(self.steady) / self.step;
        (self.first << doubled.min(16)).min(MOST_PART_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::{PART_BYTES, Parts};

    const TIB: u64 = 1 << 40;

    fn sum(parts: Parts) -> u64 {
        (0..10_000).map(|number| parts.size(number)).sum()
    }

    #[test]
    fn ten_thousand_parts_hold_whatever_comes() {
        assert!(sum(Parts::UNKNOWN) > 5 * TIB);
        assert_eq!(Parts::UNKNOWN.size(999), PART_BYTES);
        for total in [0, 1 << 30, 70 << 30, 500 << 30, 4 * TIB] {
            let parts = Parts::of(total);
            assert!(sum(parts) > total + total / 2, "{total}");
            assert!((0..10_000).all(|number| (5 << 20..=5 << 30).contains(&parts.size(number))));
        }
        assert_eq!(Parts::of(70 << 30).first, PART_BYTES);
    }
}
