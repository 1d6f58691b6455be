//! Compares the mirror with `kmod/freezeframe.h`: a C program prints the size of every struct, the offset and size of
//! every field and the value of every constant of the header, and the mirror must agree with all of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

/// The two headers without comments.
fn header() -> String {
    let text = ["kmod/freezeframe.h", "kmod/freezeframe_image.h"]
        .map(|path| fs::read_to_string(root().join(path)).expect("the header is there"))
        .concat();
    let mut bare = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("/*") {
        bare.push_str(before);
        rest = after.split_once("*/").expect("the comment ends").1;
    }
    bare + rest
}

/// Every block `KEYWORD NAME { … };`, as name and body.
fn blocks<'a>(header: &'a str, keyword: &str) -> Vec<(&'a str, &'a str)> {
    let start = format!("\n{keyword} ff_");
    let mut found = Vec::new();
    for (at, _) in header.match_indices(&start) {
        let text = &header[at + 1 + keyword.len() + 1..];
        let (name, rest) = text.split_once(" {").expect("a block opens");
        found.push((name, rest.split_once("\n};").expect("a block closes").0));
    }
    found
}

/// `ff_image_vma` becomes `ImageVma`.
fn camel(name: &str) -> String {
    name.trim_start_matches("ff_")
        .split('_')
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect()
}

/// What the C compiler makes of the header: names and numbers, with the names of the mirror.
fn of_the_header() -> BTreeMap<String, u64> {
    let header = header();
    let mut prints = String::new();
    let mut print = |name: &str, value: &str| {
        prints.push_str(&format!(
            "\tprintf(\"{name} %llu\\n\", (unsigned long long)({value}));\n"
        ));
    };
    for (name, body) in blocks(&header, "struct") {
        print(&camel(name), &format!("sizeof(struct {name})"));
        for field in body.split(';').map(str::trim).filter(|field| !field.is_empty()) {
            let field = field
                .rsplit([' ', '\t'])
                .next()
                .expect("a name")
                .split('[')
                .next()
                .expect("a name");
            let rust = format!("{}.{field}", camel(name));
            print(&rust, &format!("offsetof(struct {name}, {field})"));
            print(
                &format!("{rust}.size"),
                &format!("sizeof(((struct {name} *)0)->{field})"),
            );
        }
    }
    for (_, body) in blocks(&header, "enum") {
        for constant in body
            .split(',')
            .filter_map(|entry| entry.split('=').next())
            .map(str::trim)
        {
            if !constant.is_empty() && !constant.starts_with("FF_PHASE_") {
                print(constant.trim_start_matches("FF_"), constant);
            }
        }
    }
    for line in header.lines().filter_map(|line| line.strip_prefix("#define FF_")) {
        let name = line.split([' ', '\t']).next().expect("a name");
        if !line.contains('"') && name != "IOC_MAGIC" {
            print(name, &format!("FF_{name}"));
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("print.c");
    let program = folder.path().join("print");
    let text = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"freezeframe.h\"\nint main(void)\n{{\n{prints}\treturn 0;\n}}\n"
    );
    fs::write(&source, text).expect("the folder takes a file");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Werror", "-I"])
        .arg(root().join("kmod"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .expect("there is a C compiler");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let printed = Command::new(&program).output().expect("the program runs");
    String::from_utf8(printed.stdout)
        .expect("it prints text")
        .lines()
        .map(|line| line.split_once(' ').expect("name and number"))
        .map(|(name, number)| (name.to_owned(), number.parse().expect("a number")))
        .collect()
}

#[path = "header/mirror.rs"]
mod mirror;
use mirror::of_the_mirror;

#[test]
fn the_mirror_agrees_with_the_header() {
    let (header, mirror) = (of_the_header(), of_the_mirror());
    assert!(header.len() > 150, "the header was read: {}", header.len());
    for (name, number) in &header {
        assert_eq!(
            mirror.get(name),
            Some(number),
            "{name}: the header says {number:#x}"
        );
    }
    for name in mirror.keys() {
        assert!(header.contains_key(name), "{name} is not in the header");
    }
}

#[test]
fn the_phases_agree_with_the_header() {
    let header = header();
    let (_, body) = *blocks(&header, "enum")
        .iter()
        .find(|(name, _)| *name == "ff_phase")
        .expect("the enum");
    let names: Vec<_> = body
        .split(',')
        .map(str::trim)
        .filter_map(|entry| entry.split_once(" = "))
        .map(|(name, number)| {
            (
                name.trim_start_matches("FF_PHASE_").to_lowercase(),
                number.parse::<u32>().expect("a number"),
            )
        })
        .collect();
    let ours: Vec<_> = snap_common::phase::Phase::ALL
        .iter()
        .map(|phase| (phase.name().to_owned(), *phase as u32))
        .collect();
    assert_eq!(names, ours);
}
