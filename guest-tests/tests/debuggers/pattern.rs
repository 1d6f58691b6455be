//! Every byte of a process whose memory has a pattern, as a script for gdb reads it.

use std::process::Command;

use guest_tests::controller::{freezeframe, report};
use guest_tests::sh;
use guest_tests::target::Target;

use crate::scene::folder;
use crate::tools::{bare_gdb, complaints, json, said};

/// What gdb runs.
const SCRIPT: &str = include_str!("scripts/bytes.py");

/// A region: how the target names it, where it says how many pages that has, how many more there are, and its pattern.
type Region = (&'static str, &'static str, u64, &'static str);

/// Those of `oracle`, which its child has from before it was forked.
const SHARED: [Region; 4] = [
    ("constant", "constant_pages", 0, "mixed"),
    ("zero", "constant_pages", 0, "zeros"),
    ("untouched", "constant_pages", 0, "zeros"),
    ("file", "constant_pages", 0, "halves"),
];
/// Those that it alone writes.
const OWN: [Region; 3] = [
    ("region", "pages", 0, "generations"),
    ("shared", "shared_pages", 0, "firsts"),
    ("counters", "count", 1, "counters"),
];
/// Those of `menagerie`.
const KINDS: [Region; 12] = [
    ("private", "private_pages", 0, "addresses"),
    ("cow_file", "cow_file_pages", 0, "addresses"),
    ("cow_memfd", "cow_memfd_pages", 0, "addresses"),
    ("memfd", "memfd_pages", 0, "addresses"),
    ("system_v", "system_v_pages", 0, "addresses"),
    ("readonly", "readonly_pages", 0, "addresses"),
    ("inaccessible", "inaccessible_pages", 0, "addresses"),
    ("undumped", "undumped_pages", 0, "addresses"),
    ("moved", "moved_pages", 0, "addresses"),
    ("torn", "torn_pages", 0, "addresses"),
    ("huge", "huge_pages", 0, "addresses"),
    ("pinned", "pinned_pages", 0, "addresses"),
];

/// Takes an image of some processes, and makes their cores whole.
fn extracted(folder: &str, pids: &[i32]) {
    let image = format!("{folder}/image.tar");
    let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
    let mut line = vec!["take", "--no-daemon", "--json", "-o", &image, "--pid"];
    line.extend(pids.iter().map(String::as_str));
    report(&freezeframe(&line));
    sh(&format!("freezeframe extract {image} -C {folder}"));
}

/// Is every byte what it should be?
fn assert_bytes(folder: &str, program: &str, pid: i32, target: &Target, regions: &[Region]) {
    let wanted: Vec<_> = regions
        .iter()
        .map(|(name, pages, more, pattern)| {
            let (start, pages) = (target.at(name), target.at(pages) + more);
            format!("('{name}', {start}, {pages}, '{pattern}')")
        })
        .collect();
    let script = format!("{folder}/bytes.py");
    std::fs::write(&script, SCRIPT).unwrap();
    let text = said(&mut bare_gdb(
        program,
        &format!("{folder}/core.{pid}"),
        &[
            &format!("python wanted = [{}]", wanted.join(", ")),
            &format!("source {script}"),
        ],
    ));
    for complaint in complaints(&text) {
        // Files that are gone, or are none: so it says of the kernel's cores, too.
        assert!(
            complaint.starts_with("warning: Can't open file ")
                && complaint.ends_with(" during file-backed mapping note processing"),
            "{complaint} in {text}"
        );
    }
    let found = json(&text);
    for (name, ..) in regions {
        let wrong = found[*name].as_array().unwrap();
        let few = &wrong[..wrong.len().min(8)];
        assert!(
            few.is_empty(),
            "{pid}, {name}: {} words are wrong: {few:?}",
            wrong.len()
        );
    }
}

/// Where a program lies.
fn path(program: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn gdb_reads_every_byte_of_the_oracle() {
    let folder = folder("oracle");
    for kind in ["small", "thp"] {
        let target = Target::spawn("oracle", &["1024", kind]);
        target.assert_runs();
        let (pid, child) = (target.pid(), i32::try_from(target.at("child")).unwrap());
        extracted(&folder, &[pid, child]);
        sh(&format!("kill -STOP {pid} {child}")); // they would take gdb's processor
        let program = path("oracle");
        assert_bytes(&folder, &program, pid, &target, &[&SHARED[..], &OWN].concat());
        assert_bytes(&folder, &program, child, &target, &SHARED);
        sh(&format!("rm -rf {folder}/*"));
    }
    sh(&format!("rm -rf {folder}"));
}

#[test]
fn gdb_reads_every_byte_of_a_menagerie() {
    let folder = folder("menagerie");
    let target = Target::spawn("menagerie", &["unmerged"]);
    extracted(&folder, &[target.pid()]);
    assert_bytes(&folder, &path("menagerie"), target.pid(), &target, &KINDS);
    sh(&format!("rm -rf {folder}"));
}
