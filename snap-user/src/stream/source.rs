//! The first stage: takes the archive from its writer, no faster than allowed.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::channel::{Flow, Outlet};
use super::options::Rate;
use super::{Cancel, Ended};

/// Passes on what the writer writes, until its end or until told to stop: the one stage that waits for somebody outside.
pub(super) async fn run(
    receiver: mpsc::Receiver<Flow>,
    outlet: Outlet,
    rate: Option<Rate>,
    stop: Cancel,
) -> Result<(), Ended> {
    // Dropping the other future drops both ends of it: the writer and the stages behind notice.
    tokio::select! {
        end = pass(receiver, outlet, rate) => end,
        () = stop.cancelled() => Err(Ended::Neighbour),
    }
}

async fn pass(mut receiver: mpsc::Receiver<Flow>, outlet: Outlet, rate: Option<Rate>) -> Result<(), Ended> {
    let mut pace = rate.map(Pace::new);
    loop {
        let flow = outlet
            .waiting_for(receiver.recv())
            .await
            .ok_or(Ended::Neighbour)?;
        if let (Some(pace), Flow::Piece(piece)) = (&mut pace, &flow) {
            pace.wait_for(piece.len() as u64).await;
        }
        let end = matches!(flow, Flow::End);
        outlet.send(flow).await?;
        if end {
            return Ok(());
        }
    }
}

/// Keeps to a rate. Who was slow may catch up for as long as `SLACK`.
struct Pace {
    rate: Rate,
    /// When the next piece may go.
    next: Instant,
}

/// Long enough for a scheduler's hiccup, too short for a burst that anybody minds.
const SLACK: Duration = Duration::from_millis(100);

impl Pace {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            next: Instant::now(),
        }
    }

    async fn wait_for(&mut self, bytes: u64) {
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(SLACK).unwrap_or(now));
        tokio::time::sleep_until(self.next).await;
        self.next += self.rate.time_for(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pace;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_a_pause_is_no_credit() {
        let mut pace = Pace::new("1MiB".parse().unwrap());
        let clock = Instant::now();
        for _ in 0..11 {
            pace.wait_for(1 << 20).await;
        }
        assert_eq!(clock.elapsed().as_secs(), 10);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let clock = Instant::now();
        for _ in 0..11 {
            pace.wait_for(1 << 20).await;
        }
        assert!(clock.elapsed() > Duration::from_secs(9), "{:?}", clock.elapsed());
    }
}
