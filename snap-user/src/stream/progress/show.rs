//! Telling people how far a pipeline is, on standard error.

use std::convert::Infallible;
use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Snapshot;
use crate::report::bytes;

/// A bar moves this often.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// A log gets a line this often, and none before.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far it is, for as long as this future is polled: a bar on a terminal, which goes when the future is dropped; elsewhere a
/// line every five seconds, so none for what is quick.
///
/// `now` says how far it is; nothing: it has not begun.
pub async fn show(now: impl Fn() -> Option<Snapshot>) -> ! {
    if stderr().is_terminal() {
        bar(now).await
    } else {
        lines(now).await
    }
}

async fn lines(now: impl Fn() -> Option<Snapshot>) -> ! {
    loop {
        tokio::time::sleep(LINE_EVERY).await;
        if let Some(snapshot) = now() {
            eprintln!("freezeframe: {}", line(&snapshot));
        }
    }
}

/// Clears the line.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

async fn bar(now: impl Fn() -> Option<Snapshot>) -> ! {
    let known = ProgressStyle::with_template("{bar:30} {msg}");
    let unknown = ProgressStyle::with_template("{spinner} {msg}");
    let (Ok(known), Ok(unknown)) = (known, unknown) else {
        match std::future::pending::<Infallible>().await {}
    };
    let mut bar = None;
    loop {
        if let Some(snapshot) = now() {
            let target = || Cleared(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
            let Cleared(bar) = bar.get_or_insert_with(target);
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
        tokio::time::sleep(BAR_EVERY).await;
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
    use super::{duration, line};
    use crate::stream::progress::{Snapshot, StageSnapshot};

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
