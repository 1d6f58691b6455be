//! A program in C and one in Rust.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::notes::assert_as_of_the_kernel;
use crate::record::{Record, function};
use crate::scene::{Scene, folder};
use crate::tools::{bare_gdb, json, quiet, threads};

/// What gdb is asked for in each frame, and prints as JSON.
const FRAMES: &str = include_str!("scripts/frames.py");
/// What drgn is asked for.
const DRGN: &str = include_str!("scripts/threads.drgn.py");

/// A language, and how its variables are named.
struct Language {
    name: &'static str,
    /// The program, built by `build.rs`.
    program: &'static [u8],
    /// What gdb calls it.
    language: &'static str,
    /// Global variables, and how gdb prints them.
    globals: &'static [(&'static str, &'static str)],
    /// Two counters, in step.
    pair: [&'static str; 2],
    /// Local variables that are counted up around that.
    around: [&'static str; 2],
    /// A variable of each thread that is its id.
    own: Option<&'static str>,
}

const C: Language = Language {
    name: "c",
    program: include_bytes!(concat!(env!("OUT_DIR"), "/places_c")),
    language: "c",
    globals: &[
        ("greeting", "\"frozen in time\""),
        ("primes", "{2, 3, 5, 7}"),
        ("chain->next->next->value", "33"),
    ],
    pair: ["pair.first", "pair.second"],
    around: ["before", "after"],
    own: Some("own"),
};

const RUST: Language = Language {
    name: "rust",
    program: include_bytes!(concat!(env!("OUT_DIR"), "/places_rust")),
    language: "rust",
    globals: &[
        ("places::GREETING", "\"frozen in time\""),
        ("places::PRIMES", "[2, 3, 5, 7]"),
        (
            "places::MOODS[1]",
            "places::Mood::Busy{since: 1987, with: \"rust\"}",
        ),
    ],
    pair: ["places::PAIR.first.v.value", "places::PAIR.second.v.value"],
    around: ["before.v.value", "after.v.value"],
    own: None,
};

#[test]
fn c_is_where_it_said() {
    look_at(&C);
}

#[test]
fn rust_is_where_it_said() {
    look_at(&RUST);
}

fn look_at(language: &Language) {
    let folder = folder(language.name);
    let program = format!("{folder}/places");
    std::fs::write(&program, language.program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let scene = Scene::take(folder, &program, &[]);
    let records: HashMap<_, _> = scene
        .records()
        .into_iter()
        .map(|record| (record.tid, record))
        .collect();
    assert_as_of_the_kernel(&scene);
    for core in [&scene.core, &scene.extracted] {
        with_gdb(language, &scene, core, &records);
    }
    with_eu_stack(&scene, &records);
    with_lldb(&scene, &records);
    with_drgn(&scene, &records);
}

fn with_gdb(language: &Language, scene: &Scene, core: &str, records: &HashMap<u64, Record>) {
    let script = format!("{}/frames.py", scene.folder);
    std::fs::write(&script, FRAMES).unwrap();
    let globals: Vec<_> = language.globals.iter().map(|(name, _)| *name).collect();
    let globals = format!("{} {}", globals.join(" "), language.pair.join(" "));
    let locals = format!(
        "note.level note.half note.name {} {}",
        language.around.join(" "),
        language.own.unwrap_or_default()
    );
    // A gdb variable with a text would be in the memory of the program, and there is none to write to.
    let [globals, locals] = [("wanted_globals", globals), ("wanted_locals", locals)]
        .map(|(name, words)| format!("python {name} = '{words}'.split()"));
    let source = format!("source {script}");
    // Whatever the innermost frame is written in, of which gdb would warn.
    let speak = format!(
        "python gdb.execute('set language {}', to_string=True)",
        language.language
    );
    let commands = [&speak, &globals, &locals, &source].map(String::as_str);
    let found = json(&quiet(&mut bare_gdb(&scene.program, core, &commands)));
    for (name, value) in language.globals {
        assert_eq!(found["globals"][*name], *value, "{name}");
    }
    let threads = found["threads"].as_array().unwrap();
    assert_eq!(threads.len(), records.len());
    for thread in threads {
        assert_frames(language, thread, &found["globals"], records);
    }
    quiet(&mut bare_gdb(&scene.program, core, &["thread apply all bt full"]));
}

/// Are the frames of a thread, and its variables, what it had recorded?
fn assert_frames(language: &Language, thread: &Value, globals: &Value, records: &HashMap<u64, Record>) {
    let tid = thread["tid"].as_u64().unwrap();
    let record = &records[&tid];
    let frames = thread["frames"].as_array().unwrap();
    let name = format!("gdb, {}, thread {tid}", language.name);
    let ours: Vec<_> = frames
        .iter()
        .filter_map(|frame| Some((function(frame["function"].as_str()?)?, &frame["variables"])))
        .collect();
    let functions: Vec<_> = ours.iter().map(|(function, _)| *function).collect();
    let unrecorded = record.unrecorded(&functions, &name);
    for ((function, variables), level) in ours[unrecorded..].iter().zip(record.levels()) {
        let name = format!("{name}, {function} {level}: {variables}");
        if ["descend", "wander"].contains(function) {
            let text = |variable: &str| variables[variable].as_str().unwrap_or_else(|| panic!("{name}"));
            assert_eq!(text("note.level"), level.to_string(), "{name}");
            assert_eq!(text("note.half"), (f64::from(level) / 2.0).to_string(), "{name}");
            let rest = text("note.name").strip_prefix(&format!("\"level {level}"));
            assert!(
                rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit())),
                "{name}"
            );
        }
        if let Some(own) = language.own {
            assert_eq!(variables[own], tid.to_string(), "{name}");
        }
    }
    if record.innermost() == "spin" {
        let number = |of: &Value, name: &str| -> u64 { of[name].as_str().unwrap().parse().unwrap() };
        let [before, after] = language.around.map(|variable| number(ours[0].1, variable));
        let [first, second] = language.pair.map(|variable| number(globals, variable));
        let counts = [before, first, record.count, second, after];
        assert!(
            counts.is_sorted_by(|one, next| one >= next) && before <= after + 1 && after > 0,
            "{name}: {counts:?}"
        );
    }
}

/// Has each thread the frames that it had recorded?
fn assert_threads(tool: &str, found: &[(u64, Vec<&str>)], records: &HashMap<u64, Record>) {
    assert_eq!(found.len(), records.len(), "{tool}: {found:?}");
    for (tid, functions) in found {
        records[tid].unrecorded(functions, &format!("{tool}, thread {tid}"));
    }
}

fn with_eu_stack(scene: &Scene, records: &HashMap<u64, Record>) {
    let text = quiet(Command::new("eu-stack").args(["--core", &scene.core, "--executable", &scene.program]));
    let found = threads(
        &text,
        |line| line.strip_prefix("TID ")?.strip_suffix(':')?.parse().ok(),
        |line| function(line.strip_prefix('#')?.split_whitespace().nth(2)?),
    );
    assert_threads("eu-stack", &found, records);
}

fn with_lldb(scene: &Scene, records: &HashMap<u64, Record>) {
    let text = quiet(
        Command::new("lldb-14")
            // Where Debian's package has its Python, and does not look for it.
            .env("PYTHONPATH", "/usr/lib/llvm-14/lib/python3.11/dist-packages")
            .args(["--no-lldbinit", "--batch", "--core", &scene.core, &scene.program])
            .args(["-o", "thread list", "-o", "thread backtrace all"]),
    );
    // thread #1: tid = 23, 0x… program`function + …
    let tids: Vec<u64> = text
        .lines()
        .filter_map(|line| line.split_once(": tid = ")?.1.split(',').next()?.parse().ok())
        .collect();
    let found = threads(
        &text,
        |line| {
            let number = line.trim_start_matches([' ', '*']).strip_prefix("thread #")?;
            let number: usize = number.split(',').next()?.parse().ok()?;
            tids.get(number - 1).copied()
        },
        |line| {
            let symbol = line.split_once("frame #")?.1.split_once('`')?.1;
            function(symbol.split(['(', ' ']).next()?)
        },
    );
    assert_threads("lldb", &found, records);
}

fn with_drgn(scene: &Scene, records: &HashMap<u64, Record>) {
    let script = format!("{}/threads.py", scene.folder);
    std::fs::write(&script, DRGN).unwrap();
    let text = quiet(Command::new("python3").args([&script, &scene.core, &scene.program]));
    let found = threads(
        &text,
        |line| line.strip_prefix("thread ")?.parse().ok(),
        |line| function(line.strip_prefix('#')?.split_whitespace().nth(1)?),
    );
    assert_threads("drgn", &found, records);
}
