//! The differences, for people.

use std::fmt::Write as _;

use super::changes::{Change, Difference, MappingDifference, Name, ProcessDifference};
use super::pages::PageCounts;
use crate::report::{bytes, duration};
use crate::tools::text::{count, utc};

// Writing to a String cannot fail: results of `writeln!` to one are dropped.

pub(super) fn table(difference: &Difference) -> String {
    let (a, b) = (&difference.a, &difference.b);
    let mut text = format!(
        "from {} (snapshot {})\nto   {} (snapshot {})",
        utc(a.instant_unix_ns),
        a.snapshot_id,
        utc(b.instant_unix_ns),
        b.snapshot_id,
    );
    if let Some(later) = b.instant_unix_ns.checked_sub(a.instant_unix_ns) {
        let _ = write!(text, ", {} later", duration(later));
    }
    text.push_str("\n\n");
    for (sign, names) in [('-', &difference.gone), ('+', &difference.come)] {
        for Name { id, comm } in names {
            let _ = writeln!(text, "{sign} process {id} {comm}");
        }
    }
    for process in &difference.processes {
        one(&mut text, process);
    }
    text
}

fn one(text: &mut String, process: &ProcessDifference) {
    if process.is_none() {
        let _ = writeln!(text, "  process {} {}: no change", process.pid, process.comm);
        return;
    }
    let _ = writeln!(
        text,
        "~ process {} {}: {}",
        process.pid,
        process.comm,
        pages(process.pages)
    );
    if let Some((before, after)) = &process.exe {
        let _ = writeln!(text, "    ~ program {before} is now {after}");
    }
    for (sign, names) in [('-', &process.threads_gone), ('+', &process.threads_come)] {
        for Name { id, comm } in names {
            let _ = writeln!(text, "    {sign} thread {id} {comm}");
        }
    }
    for change in &process.descriptors {
        let _ = write!(
            text,
            "    {} descriptor {} {}",
            sign(change.change),
            change.fd,
            change.path
        );
        if let Some((before, after)) = change.position {
            let _ = write!(text, ": from byte {before} to {after}");
        }
        text.push('\n');
    }
    for change in &process.mappings {
        mapping(text, change);
    }
}

fn mapping(text: &mut String, change: &MappingDifference) {
    let name = if change.path.is_empty() {
        "anonymous"
    } else {
        &change.path
    };
    let _ = write!(
        text,
        "    {} {:#x}-{:#x} {name}",
        sign(change.change),
        change.start,
        change.end
    );
    if change.grown_bytes != 0 {
        let word = if change.grown_bytes > 0 { "grown" } else { "shrunk" };
        let _ = write!(text, ", {word} by {}", bytes(change.grown_bytes.unsigned_abs()));
    }
    if let Some((before, after)) = &change.permissions {
        let _ = write!(text, ", {before} is now {after}");
    }
    if change.change != Change::Gone {
        let _ = write!(text, ": {}", pages(change.pages));
    }
    text.push('\n');
}

fn sign(change: Change) -> char {
    match change {
        Change::Come => '+',
        Change::Gone => '-',
        Change::Changed | Change::Within => '~',
    }
}

fn pages(pages: PageCounts) -> String {
    let PageCounts {
        same,
        changed,
        new,
        gone,
    } = pages;
    let mut text = format!("{changed} of {} changed", count(same + changed, "page", "pages"));
    for (number, word) in [(new, "new"), (gone, "gone")] {
        if number != 0 {
            let _ = write!(text, ", {number} {word}");
        }
    }
    text
}
