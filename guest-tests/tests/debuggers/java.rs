//! A program in Java: the JVM's own tools find its threads' frames and its objects, and gdb the frames of the JVM.

use std::io::Write as _;
use std::process::{Command, Stdio};

use guest_tests::sh;

use crate::record::{Record, function};
use crate::scene::{Scene, folder};
use crate::tools::{bare_gdb, complaints, said, threads};

const PROGRAM: &str = include_str!("../../debuggees/Places.java");

/// So that the frames are where they are looked for, and references are addresses.
const OPTIONS: [&str; 5] = [
    "-Xint",
    "-Xmx32m",
    "-XX:+UseSerialGC",
    "-XX:-UseCompressedOops",
    "-XX:-UsePerfData",
];

/// Of how many instants one must have frames of every thread. Of the thread that counts, which runs, jstack now and then finds none,
/// nor does it in the kernel's own cores: of 118 of this program, 20 had none, and in one more it gave up ([`LOST`]).
const INSTANTS: usize = 6;

/// What jstack says among a thread's frames when it cannot walk on.
const LOST: &str = "Error occurred during stack walking:";

/// What the object has.
const FIELDS: [&str; 2] = ["greeting: \"frozen in time\"", "prime: 7"];

#[test]
fn java_is_where_it_said() {
    let classes = folder("classes");
    let program = format!("{classes}/Places.java");
    std::fs::write(&program, PROGRAM).unwrap();
    sh(&format!("javac -XDignore.symbol.file -d {classes} {program}"));
    let arguments = [&OPTIONS[..], &["-cp", &classes, "Places"]].concat();
    let found = (0..INSTANTS).find_map(|_| {
        let scene = Scene::take(folder("java"), "java", &arguments);
        let records = scene.records();
        with_jstack(&scene, &records).then_some((scene, records))
    });
    let (scene, records) = found.expect("at one of so many instants, jstack finds frames of every thread");
    with_clhsdb(&scene, &records);
    with_gdb(&scene);
}

/// Its tools warn of nothing that would not be in their output.
fn jhsdb(scene: &Scene, tool: &str) -> Command {
    let mut jhsdb = Command::new("jhsdb");
    jhsdb.args([tool, "--exe", &scene.program, "--core", &scene.core]);
    jhsdb
}

/// Returns whether every thread has frames. Those that there are must be right, and where jstack gives up, it is the thread that counts.
fn with_jstack(scene: &Scene, records: &[Record]) -> bool {
    let text = said(&mut jhsdb(scene, "jstack"));
    let complaints = complaints(&text);
    assert!(
        complaints.iter().all(|line| *line == LOST),
        "{complaints:#?} in {text}"
    );
    // "place 3" #12 prio=5 …, and its frames: - Places.descend(long, int, Places$Pause) @bci=26, line=57 (Interpreted frame)
    let found = threads(
        &text,
        |line| line.strip_prefix("\"place ")?.split('"').next()?.parse().ok(),
        |line| match line {
            LOST => Some(LOST),
            _ => function(line.trim_start().strip_prefix("- ")?.split('(').next()?),
        },
    );
    assert_eq!(found.len(), records.len(), "{text}");
    let mut all = true;
    for (number, functions) in found {
        let record = &records[usize::try_from(number).unwrap()];
        let lost = functions.is_empty() || functions.contains(&LOST);
        if lost && record.innermost() == "spin" {
            all = false;
            continue;
        }
        let unrecorded = record.unrecorded(&functions, &format!("jstack, thread {number}"));
        assert_eq!(unrecorded, 0, "{text}");
    }
    all
}

fn with_clhsdb(scene: &Scene, records: &[Record]) {
    let mut clhsdb = jhsdb(scene, "clhsdb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = clhsdb.stdin.take().unwrap();
    writeln!(input, "inspect {:#x}\nquit", scene.target.at("pair")).unwrap();
    drop(input);
    let output = clhsdb.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    for field in FIELDS {
        assert!(text.contains(field), "{field}: {text}");
    }
    let number = |field: &str| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{field}: ")));
        line.unwrap_or_else(|| panic!("{field}: {text}")).parse().unwrap()
    };
    let counted = records
        .iter()
        .find(|record| record.innermost() == "spin")
        .unwrap();
    let counts = [number("first"), counted.count, number("second")];
    assert!(
        counts.is_sorted_by(|one, next| one >= next) && counts[0] <= counts[2] + 1 && counts[2] > 0,
        "{counts:?}"
    );
}

/// Of Java's own frames gdb knows nothing, of this core as of the kernel's. What it says of all else is the same of both, where threads
/// wait.
fn with_gdb(scene: &Scene) {
    let [ours, theirs] = [&scene.core, &scene.kernel_core].map(|core| backtraces(scene, core));
    assert_eq!(ours.len(), theirs.len());
    for (thread, frames) in ours {
        let of_kernel = theirs.iter().find(|(other, _)| *other == thread);
        let (_, of_kernel) = of_kernel.expect("the kernel has that thread, too");
        let waits = frames
            .first()
            .is_some_and(|frame| frame.contains("futex") || frame.contains("read"));
        if waits {
            assert_eq!(frames, *of_kernel, "thread {thread}");
        }
    }
}

/// Of each thread its frames without addresses.
fn backtraces(scene: &Scene, core: &str) -> Vec<(u64, Vec<String>)> {
    // The JVM's own script for gdb wants what the JVM is without: debug information.
    let text = said(&mut bare_gdb(&scene.program, core, &["thread apply all bt"]));
    let found = threads(
        &text,
        |line| {
            line.strip_prefix("Thread ")?
                .split_once("(LWP ")?
                .1
                .split(')')
                .next()?
                .parse()
                .ok()
        },
        |line| line.strip_prefix('#').filter(|line| !line.contains("??")),
    );
    found
        .into_iter()
        .map(|(thread, frames)| (thread, frames.into_iter().map(str::to_owned).collect()))
        .collect()
}
