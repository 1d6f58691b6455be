//! The guest's half of `cargo xtask bench drain`: measures, and writes one JSON object a line to `/out/samples.jsonl`. The host makes
//! the tables. Usage: `bench_drain ROUNDS [CRIU_TAR]`.
//!
//! Everything lies in a tmpfs, and the others get the very bytes that our image has: the core out of an uncompressed one.

use std::fs::File;
use std::io::Write as _;

use guest_tests::criu::Criu;
use guest_tests::sh;
use guest_tests::target::Target;
use serde_json::{Value, json};

mod copies;
mod memory;
mod sizes;
mod speed;
mod take;

/// Samples, written as they come.
pub struct Out(File);

impl Out {
    /// One sample; the console sees that something happens.
    pub fn sample(&mut self, what: &str, parts: &[&Value]) {
        let mut line = json!({ "what": what });
        let target = line.as_object_mut().expect("made above");
        for part in parts {
            target.extend(part.as_object().expect("named values").clone());
        }
        println!("{line}");
        writeln!(self.0, "{line}").expect("the samples can be written");
    }
}

/// A larder of so many MiB.
pub fn larder(mib: u64, kind: &str) -> Target {
    // Not the console: a terminal is more than criu wants to see.
    Target::spawn("sh", &["-c", &format!("exec larder {mib} {kind} 2>/dev/null")])
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let rounds: usize = arguments
        .get(1)
        .and_then(|text| text.parse().ok())
        .expect("usage: bench_drain ROUNDS [CRIU_TAR]");
    let criu = arguments.get(2).map(|tar| Criu::unpack(tar));
    let mut out = Out(File::create("/out/samples.jsonl").expect("the samples can be written"));
    let version = |of: &str| sh(&format!("{of} | head -n 1")).trim().to_owned();
    out.sample(
        "guest",
        &[&json!({
            "kernel": version("uname -r"),
            "processors": version("nproc"),
            "zstd": version("zstd --version | grep -o 'v[0-9.]*'"),
            "age": version("age --version"),
            "gdb": version("gdb --version | grep -o '[0-9.]*$'"),
            "criu": criu.as_ref().map(Criu::version),
        })],
    );
    sizes::increments(&mut out);
    sizes::whole(&mut out, criu.as_ref());
    copies::measure(&mut out, rounds);
    memory::measure(&mut out, rounds);
    for kind in ["small", "huge"] {
        speed::measure(&mut out, kind, rounds);
    }
}
