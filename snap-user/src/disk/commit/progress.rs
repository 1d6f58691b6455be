//! How far a merge is, for people.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::disk::blockdev::SECTOR;
use crate::report::{bytes, duration};

/// Who wants to know how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A person: lines on standard error.
    Shown,
    /// Nobody.
    Silent,
}

/// The progress: on a terminal one line that changes, elsewhere a line every few seconds.
pub(super) struct Line {
    progress: Progress,
    terminal: bool,
    last: Instant,
}

impl Line {
    const PACE: Duration = Duration::from_secs(5);

    pub(super) fn new(progress: Progress) -> Self {
        Self {
            progress,
            terminal: std::io::stderr().is_terminal(),
            last: Instant::now(),
        }
    }

    pub(super) fn show(&mut self, from: u64, left: u64, elapsed: Duration) {
        if self.progress == Progress::Silent || (!self.terminal && self.last.elapsed() < Self::PACE) {
            return;
        }
        self.last = Instant::now();
        let text = describe(from, left, elapsed);
        // Progress that cannot be shown is no reason to stop.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r\x1b[K{text}")
        } else {
            writeln!(std::io::stderr(), "{text}")
        };
    }

    pub(super) fn end(&self, from: u64, elapsed: Duration) {
        if self.progress == Progress::Shown && from > 0 {
            let clear = if self.terminal { "\r\x1b[K" } else { "" };
            let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
            let _ = writeln!(
                std::io::stderr(),
                "{clear}merged {} in {}",
                bytes(from * SECTOR),
                duration(nanoseconds)
            );
        }
    }
}

fn describe(from: u64, left: u64, elapsed: Duration) -> String {
    let done = from.saturating_sub(left);
    let rate = u64::try_from(u128::from(done * SECTOR) * 1000 / elapsed.as_millis().max(1)).unwrap_or(0);
    let remaining = match (left * SECTOR).checked_div(rate) {
        Some(seconds) => format!("{}/s, {seconds} s left", bytes(rate)),
        None => "starting".to_owned(),
    };
    format!(
        "merged {} of {}, {remaining}",
        bytes(done * SECTOR),
        bytes(from * SECTOR)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::describe;

    #[test]
    fn progress_tells_what_is_left() {
        assert_eq!(
            describe(4 << 11, 3 << 11, Duration::from_secs(1)),
            "merged 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left"
        );
        assert_eq!(
            describe(2048, 2048, Duration::ZERO),
            "merged 0 B of 1.0 MiB, starting"
        );
    }
}
