//! An object as a blocking reader. A thread with a runtime of its own fetches it, so that whoever reads may be in a runtime or not.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::{Buf as _, Bytes};
use url::Url;

use super::ReadError;
use crate::stream::store::{Download, ObjectError, Settings};

/// Chunks that may wait for the reader; they are as small as they come.
const CHUNKS: usize = 32;

pub(super) struct Downloading {
    chunks: Receiver<Result<Bytes, ObjectError>>,
    chunk: Bytes,
}

impl Downloading {
    /// Waits until the store has found it.
    pub(super) fn begin(url: &Url, settings: &Settings) -> Result<Self, ObjectError> {
        let (sender, chunks) = sync_channel(CHUNKS);
        let (url, settings) = (url.clone(), settings.clone());
        // It ends with the object, or when the reader has gone.
        std::thread::spawn(move || fetch(&url, &settings, &sender));
        match chunks.recv() {
            Ok(Ok(chunk)) => Ok(Self { chunks, chunk }),
            Ok(Err(error)) => Err(error),
            // An object of nothing.
            Err(_) => Ok(Self {
                chunks,
                chunk: Bytes::new(),
            }),
        }
    }
}

fn fetch(url: &Url, settings: &Settings, chunks: &SyncSender<Result<Bytes, ObjectError>>) {
    let fetching = async {
        let mut download = Download::begin(url, settings).await?;
        while let Some(chunk) = download.next().await {
            if chunks.send(Ok(chunk?)).is_err() {
                break;
            }
        }
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fetched = match runtime {
        Ok(runtime) => runtime.block_on(fetching),
        Err(source) => Err(ObjectError::Thread(source)),
    };
    if let Err(error) = fetched {
        // Where nobody reads any more, nobody wants to know.
        let _ = chunks.send(Err(error));
    }
}

impl Read for Downloading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.recv() {
                Ok(chunk) => {
                    self.chunk = chunk.map_err(|error| io::Error::other(ReadError::of_store(&error)))?;
                }
                Err(_) => return Ok(0),
            }
        }
        let read = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
