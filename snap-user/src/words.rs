//! What we say: data on standard output, words for people on standard error. Whoever listens may go away, and the disk below may be full;
//! std's macros would panic then, with work to be undone or told.

use std::fmt;
use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// Prints data. Whoever has read enough of it may go away.
///
/// # Errors
///
/// When standard output does not take it.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}

/// Prints a line of JSON.
///
/// # Errors
///
/// As [`print()`].
pub fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&(serde_json::to_string(value).context("cannot print JSON")? + "\n"))
}

/// Says something to people, as it stands. What nobody can read is lost.
pub fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A line for people: for [`tell!`](crate::tell).
pub fn tell_line(line: fmt::Arguments<'_>) {
    say(&format!("freezeframe: {line}\n"));
}

/// Tells people something in one line, as `format!` words it.
#[macro_export]
macro_rules! tell {
    ($($words:tt)*) => {
        $crate::words::tell_line(format_args!($($words)*))
    };
}
