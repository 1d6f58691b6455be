//! Debuggers, as they are run on cores, and what counts as a complaint.

use std::process::{Command, Output};

use serde_json::Value;

/// What they say when something is wrong, in small letters.
const COMPLAINTS: [&str; 14] = [
    "warning",
    "error",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "unable",
    "corrupt",
    "stopped:",
    "backtrace stopped",
    "missing",
    "not found",
    "no such file",
    "??",
];

/// What gdb says of libc's sources, which are not installed; it would of a process that runs, too.
const WITHOUT_SOURCES: &str = ".c: No such file or directory.";

/// The lines of a text that are complaints.
pub fn complaints(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| {
            let small = line.to_lowercase();
            COMPLAINTS.iter().any(|words| small.contains(words)) && !line.ends_with(WITHOUT_SOURCES)
        })
        .collect()
}

/// Everything that a command says, standard error in front.
///
/// # Panics
///
/// When it fails.
pub fn said(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stderr),
        String::from_utf8_lossy(&stdout)
    );
    assert!(status.success(), "{command:?}: {text}");
    text
}

/// The same without any complaint.
///
/// # Panics
///
/// When it fails or complains.
pub fn quiet(command: &mut Command) -> String {
    let text = said(command);
    let complaints = complaints(&text);
    assert!(complaints.is_empty(), "{command:?}: {complaints:#?} in {text}");
    text
}

/// gdb on a core, with these commands.
pub fn gdb(program: &str, core: &str, commands: &[&str]) -> Command {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.args([program, core]);
    gdb
}

/// The same without the scripts that programs and libraries name: they are not installed everywhere.
pub fn bare_gdb(program: &str, core: &str, commands: &[&str]) -> Command {
    let mut gdb = gdb(program, core, commands);
    gdb.args(["-iex", "set auto-load python-scripts off"]);
    gdb
}

/// The line of JSON that a script has printed.
///
/// # Panics
///
/// When there is none.
pub fn json(text: &str) -> Value {
    let line = text.lines().rfind(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("it prints JSON: {text}"))).expect("it is JSON")
}

/// A text that names threads on lines of their own, and below each of them its frames: of each the id, and the functions, the innermost
/// first.
pub fn threads(
    text: &str,
    id: impl Fn(&str) -> Option<u64>,
    function: impl Fn(&str) -> Option<&str>,
) -> Vec<(u64, Vec<&str>)> {
    let mut threads: Vec<(u64, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if let Some(id) = id(line) {
            threads.push((id, Vec::new()));
        } else if let (Some(thread), Some(function)) = (threads.last_mut(), function(line)) {
            thread.1.push(function);
        }
    }
    threads
}
