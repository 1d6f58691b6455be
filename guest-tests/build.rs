//! Builds the programs that debuggers are shown: with all that these want to know, which the suites' own programs are without.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=debuggees");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    let out = Path::new(&out);
    let mut c = cc::Build::new().opt_level(0).get_compiler().to_command();
    c.args([
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-g",
        "-pthread",
        "-o",
    ])
    .arg(out.join("places_c"))
    .arg("debuggees/places.c");
    run(&mut c);
    let mut rust = Command::new(std::env::var_os("RUSTC").expect("cargo sets it"));
    rust.args(["--edition", "2024", "--deny", "warnings", "-g", "-o"])
        .arg(out.join("places_rust"))
        .arg("debuggees/places.rs");
    run(&mut rust);
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?} failed");
}
