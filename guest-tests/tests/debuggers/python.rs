//! A program in Python, with the commands for gdb that python3-dbg brings.

use std::collections::HashMap;
use std::process::Command;

use crate::record::function;
use crate::scene::{Scene, folder};
use crate::tools::{gdb, quiet, threads};

const PROGRAM: &str = include_str!("../../debuggees/places.py");
/// What gdb is asked for.
const SCRIPT: &str = include_str!("scripts/threads.py");

#[test]
fn python_is_where_it_said() {
    let folder = folder("python");
    let program = format!("{folder}/places.py");
    std::fs::write(&program, PROGRAM).unwrap();
    let scene = Scene::take(folder, "python3", &[&program]);
    let records: HashMap<_, _> = scene
        .records()
        .into_iter()
        .map(|record| (record.tid, record))
        .collect();
    let script = format!("{}/threads.py", scene.folder);
    std::fs::write(&script, SCRIPT).unwrap();
    let text = quiet(&mut gdb(
        &scene.program,
        &scene.core,
        &[&format!("source {script}")],
    ));
    // #4 Frame 0x7f…, for file …/places.py, line 75, in descend (record=64, level=3, …)
    let found = threads(
        &text,
        |line| line.strip_prefix("thread ")?.parse().ok(),
        |line| {
            let frame = line.split_once(&program)?.1.split_once(", in ")?.1;
            function(frame.split(' ').next()?).map(|_| frame)
        },
    );
    assert_eq!(found.len(), records.len(), "{text}");
    for (tid, frames) in &found {
        assert_frames(*tid, frames, &records[tid]);
    }
    quiet(&mut gdb(&scene.program, &scene.core, &["thread apply all bt"]));
    quiet(Command::new("eu-stack").args(["--core", &scene.core, "--executable", &scene.program]));
}

/// Are the frames of a thread, and its variables, what it had recorded?
fn assert_frames(tid: u64, frames: &[&str], record: &crate::record::Record) {
    let name = format!("Python, thread {tid}");
    let functions: Vec<_> = frames
        .iter()
        .filter_map(|frame| function(frame.split(' ').next()?))
        .collect();
    let unrecorded = record.unrecorded(&functions, &name);
    for (frame, level) in frames[unrecorded..].iter().zip(record.levels()) {
        let argument = if frame.starts_with("serve ") {
            "number"
        } else {
            "level"
        };
        let has = |variable: &str, value: &str| {
            [format!("{variable}={value},"), format!("{variable}={value})")]
                .iter()
                .any(|text| frame.contains(text))
        };
        assert!(has(argument, &level.to_string()), "{name}: {frame}");
        if ["descend ", "wander "]
            .iter()
            .any(|start| frame.starts_with(start))
        {
            assert!(has("name", &format!("'level {level}'")), "{name}: {frame}");
            assert!(has("twice", &(2 * level).to_string()), "{name}: {frame}");
        }
    }
    if record.innermost() == "spin" {
        let number = |variable: &str| -> u64 {
            let rest = frames[0]
                .split_once(&format!("{variable}="))
                .expect("it has it")
                .1;
            rest.split([',', ')']).next().unwrap().parse().unwrap()
        };
        let counts = [number("before"), record.count, number("after")];
        assert!(
            counts.is_sorted_by(|one, next| one >= next) && counts[0] <= counts[2] + 1 && counts[2] > 0,
            "{name}: {counts:?}"
        );
    }
}
