//! The notes and segments of our cores, beside those of the cores that the kernel dumps of the same processes.

use std::process::Command;

use crate::scene::Scene;
use crate::tools::quiet;

/// A note as eu-readelf shows it.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    /// Owner, size and type.
    head: [String; 3],
    /// What is in it.
    text: Vec<String>,
}

impl Note {
    fn kind(&self) -> &str {
        &self.head[2]
    }

    /// The values of these fields, wherever they stand.
    fn fields(&self, names: &[&str]) -> Vec<String> {
        let fields = self.text.iter().flat_map(|line| line.split(", "));
        fields
            .filter(|field| {
                names
                    .iter()
                    .any(|name| field.trim().starts_with(&format!("{name}:")))
            })
            .map(|field| field.trim().to_owned())
            .collect()
    }
}

/// What eu-readelf finds.
fn notes(core: &str) -> Vec<Note> {
    let text = quiet(Command::new("eu-readelf").args(["--notes", core]));
    let mut notes: Vec<Note> = Vec::new();
    for line in text.lines().skip_while(|line| !line.contains("Owner")).skip(1) {
        if line.starts_with("    ") || line.is_empty() {
            let note = notes.last_mut().expect("a note before its text");
            note.text.push(line.trim().to_owned());
            continue;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        notes.push(Note {
            head: [word(), word(), word()],
            text: Vec::new(),
        });
    }
    notes
}

/// `NT_X86_XSAVE_LAYOUT`.
const XSAVE_LAYOUT: u32 = 0x205;

/// What is in a note of the owner LINUX.
fn content(core: &str, kind: u32) -> Option<Vec<u8>> {
    let bytes = std::fs::read(core).unwrap();
    let owner = [&kind.to_le_bytes()[..], b"LINUX\0\0\0"].concat();
    let at = bytes.windows(owner.len()).position(|window| window == owner)?;
    let size = u32::from_le_bytes(bytes[at - 4..at].try_into().unwrap());
    Some(bytes[at + owner.len()..][..size as usize].to_vec())
}

/// Of each thread, by its id, its notes.
fn by_thread(notes: &[Note]) -> Vec<(String, Vec<&Note>)> {
    let mut threads: Vec<(String, Vec<&Note>)> = Vec::new();
    for note in notes.iter().filter(|note| note.head[0] != "FREEZEFRAME") {
        if note.kind() == "PRSTATUS" {
            threads.push((note.fields(&["pid"]).remove(0), Vec::new()));
        }
        threads.last_mut().expect("PRSTATUS comes first").1.push(note);
    }
    threads[1..].sort_by(|one, other| one.0.cmp(&other.0));
    threads
}

/// Has our core the notes that the kernel's has, and do they say the same where nothing has happened in between?
pub fn assert_as_of_the_kernel(scene: &Scene) {
    let cores = [&scene.core, &scene.kernel_core];
    // Which files with which build IDs lie where.
    let [ours, theirs] =
        cores.map(|core| quiet(Command::new("eu-unstrip").args(["--list-only", "--core", core])));
    assert_eq!(ours, theirs);
    let [ours, theirs] = cores.map(|core| notes(core));
    let [ours, theirs] = [&ours, &theirs].map(|notes| by_thread(notes));
    if let Some(layout) = content(&scene.kernel_core, XSAVE_LAYOUT) {
        assert_eq!(content(&scene.core, XSAVE_LAYOUT), Some(layout));
    }
    let heads = |threads: &[(String, Vec<&Note>)]| -> Vec<_> {
        let all = threads
            .iter()
            .flat_map(|(tid, notes)| notes.iter().map(move |note| (tid.clone(), note)));
        // eu-readelf does not know the layout, which kernels before 6.12 do not write.
        all.filter(|(_, note)| !["FILE", "<unknown>:"].contains(&note.kind()))
            .map(|(tid, note)| (tid, note.head.clone()))
            .collect()
    };
    assert_eq!(heads(&ours), heads(&theirs));
    let pairs = ours
        .iter()
        .zip(&theirs)
        .flat_map(|((_, ours), (_, theirs))| ours.iter().zip(theirs));
    for (ours, theirs) in pairs {
        match ours.kind() {
            "PRSTATUS" => {
                // Not of the parent: the kernel has the thread that forked, we the process.
                let fields = [
                    "sigpend", "sighold", "pid", "pgrp", "sid", "fpvalid", "fs.base", "cs",
                ];
                assert_eq!(
                    ours.fields(&fields),
                    theirs.fields(&fields),
                    "{ours:?} {theirs:?}"
                );
            }
            "PRPSINFO" => {
                let fields = [
                    "zomb", "nice", "uid", "gid", "pid", "pgrp", "sid", "fname", "psargs",
                ];
                assert_eq!(
                    ours.fields(&fields),
                    theirs.fields(&fields),
                    "{ours:?} {theirs:?}"
                );
                assert_eq!(
                    ours.fields(&["state", "sname"]),
                    ["state: 1", "sname: S"],
                    "{ours:?}"
                );
            }
            "AUXV" => assert_eq!(ours, theirs),
            // But for what is no file, and in the core.
            "FILE" => {
                let files = theirs.text[1..]
                    .iter()
                    .filter(|line| !line.contains("/dev/zero (deleted)"));
                assert!(files.eq(&ours.text[1..]), "{ours:?} {theirs:?}");
            }
            "SIGINFO" => assert_eq!(ours.fields(&["si_signo"]), ["si_signo: 0"]),
            _ => {}
        }
    }
}
