//! Telling people how far a pipeline is, on standard error.

use std::convert::Infallible;
use std::io::{IsTerminal as _, stderr};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Snapshot;
use crate::report::bytes;

/// A bar moves this often.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// A log gets a line this often, and none before.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is shown last may take this long to go; a terminal that takes nothing is left to itself then.
const GRACE: Duration = Duration::from_millis(500);

/// Shows how far it is, for as long as this future is polled: a bar on a terminal, which goes when the future is dropped; elsewhere a
/// line every five seconds, so none for what is quick.
///
/// `now` says how far it is; nothing: it has not begun.
pub async fn show(now: impl Fn() -> Option<Snapshot>) -> ! {
    let (every, draw): (_, Draw) = if stderr().is_terminal() {
        (BAR_EVERY, bar)
    } else {
        (LINE_EVERY, lines)
    };
    let artist = Artist::start(draw);
    loop {
        tokio::time::sleep(every).await;
        if let Some(snapshot) = now() {
            artist.show(snapshot);
        }
    }
}

/// Draws one after the other, until there are no more.
type Draw = fn(Receiver<Snapshot>);

/// A thread of its own draws: standard error may be a terminal that was stopped (Ctrl-S), or a pipe that nobody reads, and nothing else
/// is to wait for that.
struct Artist {
    snapshots: Option<SyncSender<Snapshot>>,
    /// Closed when all is drawn.
    at_work: Receiver<Infallible>,
}

impl Artist {
    fn start(draw: impl FnOnce(Receiver<Snapshot>) + Send + 'static) -> Self {
        let (sender, snapshots) = sync_channel(1);
        let (working, at_work) = sync_channel(0);
        let thread = move || {
            let _working: SyncSender<Infallible> = working;
            draw(snapshots);
        };
        // Where no thread can be had, nothing is shown.
        drop(
            std::thread::Builder::new()
                .name("progress".to_owned())
                .spawn(thread),
        );
        Self {
            snapshots: Some(sender),
            at_work,
        }
    }

    fn show(&self, snapshot: Snapshot) {
        if let Some(snapshots) = &self.snapshots {
            // One that comes while another waits to be drawn is not missed.
            let _ = snapshots.try_send(snapshot);
        }
    }
}

impl Drop for Artist {
    fn drop(&mut self) {
        self.snapshots = None;
        // What is printed next belongs behind the bar, not into it.
        let _ = self.at_work.recv_timeout(GRACE);
    }
}

fn lines(snapshots: Receiver<Snapshot>) {
    for snapshot in snapshots {
        tell!("{}", line(&snapshot));
    }
}

fn bar(snapshots: Receiver<Snapshot>) {
    let known = ProgressStyle::with_template("{bar:30} {msg}");
    let unknown = ProgressStyle::with_template("{spinner} {msg}");
    let (Ok(known), Ok(unknown)) = (known, unknown) else {
        return;
    };
    let mut bar = None;
    for snapshot in snapshots {
        let bar =
            bar.get_or_insert_with(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        match snapshot.total_bytes {
            Some(total) => {
                bar.set_style(known.clone());
                bar.set_length(total);
            }
            None => bar.set_style(unknown.clone()),
        }
        bar.set_position(snapshot.read.bytes);
        bar.set_message(line(&snapshot));
        bar.tick();
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn line(snapshot: &Snapshot) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is no negative number, and this one is for people"
    )]
    let rate = bytes(snapshot.rate_bytes_per_second as u64);
    let mut line = format!("{} read", bytes(snapshot.read.bytes));
    if let Some(total) = snapshot.total_bytes {
        line = format!("{} of {} read", bytes(snapshot.read.bytes), bytes(total));
    }
    line += &format!(", {} written, {rate}/s", bytes(snapshot.write.bytes));
    if let Some(left) = snapshot.remaining_seconds {
        line += &format!(", {} left", duration(left));
    }
    line
}

fn duration(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what saturates is a long time all the same"
    )]
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::{Duration, Instant};

    use super::{Artist, GRACE, duration, line};
    use crate::stream::progress::{Progress, Snapshot, StageSnapshot};

    #[test]
    fn nothing_waits_for_a_terminal() {
        let (release, stopped) = sync_channel::<()>(0);
        let artist = Artist::start(move |_snapshots| assert!(stopped.recv().is_err()));
        let clock = Instant::now();
        for _ in 0..3 {
            artist.show(Progress::new().snapshot());
        }
        drop(artist);
        assert!(
            clock.elapsed() < GRACE + Duration::from_secs(5),
            "{:?}",
            clock.elapsed()
        );
        drop(release);
    }

    #[test]
    fn what_was_shown_last_is_drawn_before_anything_else_is_printed() {
        let (sender, drawn) = sync_channel(1);
        let artist = Artist::start(move |snapshots| sender.send(snapshots.iter().count()).unwrap());
        artist.show(Progress::new().snapshot());
        drop(artist);
        assert_eq!(drawn.try_recv(), Ok(1));
    }

    #[test]
    fn a_line_says_what_is_known() {
        let stage = |bytes| StageSnapshot {
            bytes,
            ..StageSnapshot::default()
        };
        let mut snapshot = Snapshot {
            read: stage(3 << 20),
            compress: stage(0),
            encrypt: stage(0),
            write: stage(1 << 20),
            total_bytes: None,
            elapsed_seconds: 3.0,
            rate_bytes_per_second: 1_048_576.0,
            remaining_seconds: None,
        };
        assert_eq!(line(&snapshot), "3.0 MiB read, 1.0 MiB written, 1.0 MiB/s");
        snapshot.total_bytes = Some(10 << 20);
        snapshot.remaining_seconds = Some(6.4);
        assert_eq!(
            line(&snapshot),
            "3.0 MiB of 10.0 MiB read, 1.0 MiB written, 1.0 MiB/s, 7 s left"
        );
    }

    #[test]
    fn durations_are_for_people() {
        assert_eq!(duration(0.2), "1 s");
        assert_eq!(duration(61.0), "1 min 01 s");
        assert_eq!(duration(3600.0 * 26.0 + 120.0), "26 h 02 min");
    }
}
