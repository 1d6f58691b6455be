//! What is between two stages: few pieces, an end that is announced, and clocks for who waits for whom.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::progress::{Progress, Stage};
use super::{Ended, PIECES};

/// What goes through a pipeline.
#[derive(Debug)]
pub(super) enum Flow {
    /// More of the archive.
    Piece(Bytes),
    /// That was all. A channel that closes without it was aborted.
    End,
}

/// Where a stage puts its output.
pub(super) struct Outlet {
    sender: mpsc::Sender<Flow>,
    progress: Arc<Progress>,
    stage: Stage,
}

/// Where a stage gets its input.
pub(super) struct Inlet {
    receiver: mpsc::Receiver<Flow>,
    progress: Arc<Progress>,
    stage: Stage,
}

pub(super) fn channel(progress: &Arc<Progress>, from: Stage, to: Stage) -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let outlet = Outlet {
        sender,
        progress: Arc::clone(progress),
        stage: from,
    };
    let inlet = Inlet {
        receiver,
        progress: Arc::clone(progress),
        stage: to,
    };
    (outlet, inlet)
}

impl Outlet {
    /// Counts the time until something comes from outside of the pipeline.
    pub(super) async fn waiting_for<T>(&self, outside: impl Future<Output = T>) -> T {
        let clock = Instant::now();
        let come = outside.await;
        self.progress.waited(self.stage, clock.elapsed());
        come
    }

    /// Waits for room.
    pub(super) async fn send(&self, flow: Flow) -> Result<(), Ended> {
        let bytes = size(&flow);
        if let Some(flow) = self.at_once(flow)? {
            let clock = Instant::now();
            let sent = self.sender.send(flow).await;
            self.progress.blocked(self.stage, clock.elapsed());
            sent.map_err(|_| Ended::Neighbour)?;
        }
        self.progress.advance(self.stage, bytes);
        Ok(())
    }

    /// The same, on a thread that may block.
    pub(super) fn blocking_send(&self, flow: Flow) -> Result<(), Ended> {
        let bytes = size(&flow);
        if let Some(flow) = self.at_once(flow)? {
            let clock = Instant::now();
            let sent = self.sender.blocking_send(flow);
            self.progress.blocked(self.stage, clock.elapsed());
            sent.map_err(|_| Ended::Neighbour)?;
        }
        self.progress.advance(self.stage, bytes);
        Ok(())
    }

    /// Gives back what there was no room for.
    fn at_once(&self, flow: Flow) -> Result<Option<Flow>, Ended> {
        match self.sender.try_send(flow) {
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Full(flow)) => Ok(Some(flow)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Ended::Neighbour),
        }
    }
}

fn size(flow: &Flow) -> u64 {
    match flow {
        Flow::Piece(piece) => piece.len() as u64,
        Flow::End => 0,
    }
}

impl Inlet {
    /// Waits for something.
    pub(super) async fn recv(&mut self) -> Result<Flow, Ended> {
        if let Ok(flow) = self.receiver.try_recv() {
            return Ok(flow);
        }
        let clock = Instant::now();
        let flow = self.receiver.recv().await;
        self.progress.waited(self.stage, clock.elapsed());
        flow.ok_or(Ended::Neighbour)
    }

    /// The same, on a thread that may block.
    pub(super) fn blocking_recv(&mut self) -> Result<Flow, Ended> {
        if let Ok(flow) = self.receiver.try_recv() {
            return Ok(flow);
        }
        let clock = Instant::now();
        let flow = self.receiver.blocking_recv();
        self.progress.waited(self.stage, clock.elapsed());
        flow.ok_or(Ended::Neighbour)
    }

    /// What is there already.
    pub(super) fn try_recv(&mut self) -> Option<Flow> {
        self.receiver.try_recv().ok()
    }
}
