//! One process of an image, as a tree for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Mappings, pages};
use crate::archive::head::PAGE;
use crate::archive::manifest::ProcessEntry;
use crate::archive::process::{Details, Mapping, OpenFile, PendingSignal, Process, Thread, Timer};
use crate::report::{bytes, duration};
use crate::tools::text::count;

pub(super) fn tree(entry: &ProcessEntry, process: &Process, how: Mappings) -> String {
    let mut text = format!("\nprocess {} {}\n", process.pid, process.comm);
    let mut line = |what: &str, content: &str| {
        let _ = writeln!(text, "  {what:<12} {content}");
    };
    line("program", &process.exe);
    if !process.args.is_empty() {
        line("arguments", &process.args.join(" "));
    }
    line("folder", &process.cwd);
    line(
        "ids",
        &format!(
            "parent {}, process group {}, session {}, user {}, group {}",
            process.ppid, process.pgid, process.sid, process.credentials.uid[1], process.credentials.gid[1]
        ),
    );
    line("armed", &format!("{}: {}", entry.arm, entry.arm_reason));
    if let Some(why) = &entry.whole_because {
        line("whole", why);
    }
    line("threads", &process.threads.len().to_string());
    for thread in &process.threads {
        line("", &of_thread(thread));
    }
    line("memory", &pages(entry.pages));
    for content in of_mappings(&process.mappings, how) {
        line("", &content);
    }
    line("descriptors", &process.descriptors.len().to_string());
    let files: BTreeMap<_, _> = process.files.iter().map(|file| (file.id, file)).collect();
    for descriptor in &process.descriptors {
        let file = files
            .get(&descriptor.file)
            .map_or_else(String::new, |file| of_file(file));
        let close = if descriptor.cloexec {
            ", closed by exec"
        } else {
            ""
        };
        line("", &format!("{:>4} {file}{close}", descriptor.fd));
    }
    for timer in &process.timers {
        line("timer", &of_timer(timer));
    }
    for signal in &process.pending {
        line("pending", &of_signal(signal));
    }
    if !process.signal_actions.is_empty() {
        let signals = process
            .signal_actions
            .iter()
            .map(|action| action.signal.to_string());
        line(
            "handled",
            &format!("signals {}", signals.collect::<Vec<_>>().join(" ")),
        );
    }
    for missing in entry.not_captured.iter().chain(&process.not_captured) {
        line("without", missing);
    }
    text
}

fn of_thread(thread: &Thread) -> String {
    let mut text = format!("{:>7} {:<16} {}", thread.tid, thread.comm, thread.state);
    if let Some(call) = thread.system_call {
        let _ = write!(text, " in system call {call}");
    }
    for signal in &thread.pending {
        let _ = write!(text, ", pending {}", of_signal(signal));
    }
    text
}

fn of_mappings(mappings: &[Mapping], how: Mappings) -> Vec<String> {
    if how == Mappings::Each {
        return mappings.iter().map(of_mapping).collect();
    }
    let mut sums: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for mapping in mappings {
        let sum = sums.entry(kind(mapping)).or_default();
        sum.0 += 1;
        sum.1 = sum.1.saturating_add(mapping.end.saturating_sub(mapping.start));
        sum.2 = sum.2.saturating_add(mapping.pages.saturating_mul(PAGE));
    }
    sums.into_iter()
        .map(|(kind, (number, size, held))| {
            format!(
                "{kind:<14} {:>12} {:>10}, {} of it in the image",
                count(number, "mapping", "mappings"),
                bytes(size),
                bytes(held)
            )
        })
        .collect()
}

fn kind(mapping: &Mapping) -> &'static str {
    let has = |flag: &str| mapping.flags.iter().any(|found| found == flag);
    match mapping.path.as_str() {
        _ if has("shared_memory") => "shared memory",
        _ if has("device") || has("special") || has("internal") => "others",
        "[heap]" => "heap",
        path if path.starts_with("[stack") => "stack",
        path if path.starts_with('/') => "files",
        _ => "anonymous",
    }
}

fn of_mapping(mapping: &Mapping) -> String {
    let held = mapping.pages.saturating_mul(PAGE);
    let parent = if mapping.parent_pages == 0 {
        String::new()
    } else {
        format!(
            " ({} in the parent)",
            bytes(mapping.parent_pages.saturating_mul(PAGE))
        )
    };
    format!(
        "{:#014x}-{:#014x} {} {:>10} {:>10}{parent} {}",
        mapping.start,
        mapping.end,
        mapping.permissions,
        bytes(mapping.end.saturating_sub(mapping.start)),
        bytes(held),
        mapping.path
    )
}

fn of_file(file: &OpenFile) -> String {
    let mut text = format!("{:<10} {}", file.kind, file.path);
    match &file.details {
        Details::Socket(socket) => {
            let _ = write!(text, " {} {}", socket.family, socket.kind);
            for (what, content) in [("", &socket.state), ("at ", &socket.local), ("to ", &socket.peer)] {
                if !content.is_empty() {
                    let _ = write!(text, " {what}{content}");
                }
            }
        }
        Details::Pipe { capacity, .. } => {
            let _ = write!(text, " of {}", bytes(*capacity));
        }
        Details::Eventfd { count, .. } => {
            let _ = write!(text, " at {count}");
        }
        Details::Epoll { targets } => {
            let _ = write!(text, " of {}", count(targets.len() as u64, "target", "targets"));
        }
        Details::Inotify { watches } => {
            let _ = write!(text, " of {}", count(watches.len() as u64, "watch", "watches"));
        }
        Details::Timerfd { value_ns, .. } => {
            let _ = write!(text, " fires in {}", duration(*value_ns));
        }
        Details::None | Details::Signalfd { .. } | Details::Text(_) => {}
    }
    if file.position != 0 {
        let _ = write!(text, " at byte {}", file.position);
    }
    if !file.locks.is_empty() {
        let _ = write!(text, ", {}", count(file.locks.len() as u64, "lock", "locks"));
    }
    text
}

fn of_timer(timer: &Timer) -> String {
    let mut text = timer.id.clone();
    match timer.value_ns {
        None => {}
        Some(0) => text += ", not armed",
        Some(left) => {
            let _ = write!(text, ", fires in {}", duration(left));
        }
    }
    if timer.interval_ns != 0 {
        let _ = write!(text, ", then every {}", duration(timer.interval_ns));
    }
    text
}

fn of_signal(signal: &PendingSignal) -> String {
    format!("signal {}", signal.signal)
}
