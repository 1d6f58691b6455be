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

/// An error and what caused it, as far as it does not say so itself.
#[must_use]
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = text + ": " + &cause;
        }
    }
    text
}

/// Tells people something in one line, as `format!` words it.
#[macro_export]
macro_rules! tell {
    ($($words:tt)*) => {
        $crate::words::tell_line(format_args!($($words)*))
    };
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::causes;

    #[test]
    fn no_cause_is_told_twice() {
        let error = Err::<(), _>(anyhow!("no such file"))
            .context("cannot read a.tar: no such file; look for it")
            .context("nothing was taken");
        assert_eq!(
            causes(&error.unwrap_err()),
            "nothing was taken: cannot read a.tar: no such file; look for it"
        );
    }
}
