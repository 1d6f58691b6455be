//! Whoever listens to us may go away, or have no room: that is an error like any other at most, and no panic.

use std::fs::File;
use std::process::{Command, Output, Stdio};

const PANIC: i32 = 101;

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

fn run(line: &str, stdout: Stdio, stderr: Stdio) -> Output {
    let freezeframe = Command::new(env!("CARGO_BIN_EXE_freezeframe"))
        .args(line.split(' '))
        .stdout(stdout)
        .stderr(stderr)
        .spawn();
    freezeframe.unwrap().wait_with_output().unwrap()
}

#[test]
fn whoever_has_read_enough_may_go_away() {
    for line in ["doctor", "doctor --json"] {
        let heard = run(line, Stdio::null(), Stdio::piped());
        let gone = run(line, closed(), Stdio::piped());
        assert_eq!(gone.status.code(), heard.status.code(), "{line}: {gone:?}");
        assert_eq!(gone.stderr, b"", "{line}");
    }
}

#[test]
fn data_that_nobody_can_take_are_an_error() {
    for line in ["doctor", "doctor --json"] {
        let full = run(line, full(), Stdio::piped());
        let said = String::from_utf8(full.stderr).unwrap();
        assert_eq!(full.status.code(), Some(1), "{line}: {said}");
        assert!(
            said.starts_with("freezeframe: cannot write to standard output: No space left"),
            "{said}"
        );
    }
}

#[test]
fn words_that_nobody_can_take_change_nothing() {
    let line = "show /nonexistent/image.tar";
    let heard = run(line, Stdio::null(), Stdio::piped()).status.code();
    for stderr in [full(), closed()] {
        let unheard = run(line, Stdio::null(), stderr).status.code();
        assert_eq!(unheard, heard);
        assert_ne!(unheard, Some(PANIC));
    }
}
