//! How large images are.

use guest_tests::criu::Criu;
use guest_tests::sh;
use guest_tests::target::Target;
use serde_json::{Value, json};

use crate::take::take;
use crate::{Out, larder};

/// How much memory the processes have, in MiB.
const WHOLE: u64 = 512;
const CHANGING: u64 = 256;

/// Beside a core of gdb's and a dump of criu's, all as they are and compressed by the same tool.
pub fn whole(out: &mut Out, criu: Option<&Criu>) {
    let target = larder(WHOLE, "small");
    let mut sample = |method: &str, raw: Option<u64>, compressed: u64| {
        let found = json!({ "mib": WHOLE, "method": method, "raw": raw, "compressed": compressed });
        out.sample("size", &[&found]);
    };
    take(&target, &["-o", "/tmp/image"]);
    sample("image", Some(size("/tmp/image")), compressed("cat /tmp/image"));
    sh("rm /tmp/image");
    take(&target, &["-o", "/tmp/image", "--compress", "zstd:3"]);
    sample("image by zstd", None, size("/tmp/image"));
    sh("rm /tmp/image");
    sh(&format!(
        "gdb -q -p {} -batch -ex 'gcore /tmp/gcore' >/tmp/gdb.log 2>&1",
        target.pid()
    ));
    sample("gcore", Some(size("/tmp/gcore")), compressed("cat /tmp/gcore"));
    sh("rm /tmp/gcore");
    if let Some(criu) = criu {
        let pid = u32::try_from(target.pid()).expect("not negative");
        let (_, (raw, compressed)) = criu.dump_and(pid, |folder| {
            let tar = format!("tar -C {folder} -c .");
            (number(&format!("{tar} | wc -c")), compressed(&tar))
        });
        sample("criu", Some(raw), compressed);
    }
}

/// Incremental images after a hundredth of the pages was written anew.
pub fn increments(out: &mut Out) {
    for kind in ["small", "huge"] {
        for compress in ["none", "zstd:3"] {
            let mut target = larder(CHANGING, kind);
            let full = "/tmp/full";
            take(&target, &["-o", full, "--compress", compress]);
            let mut parent = full;
            let whole = size(full);
            for (changed, file) in [("evenly", "/tmp/evenly"), ("together", "/tmp/together")] {
                target.tell(&format!("change {} {changed}", CHANGING * 256 / 100));
                let report = increment(&target, parent, file, compress);
                let found = json!({
                    "mib": CHANGING, "kind": kind, "compress": compress, "changed": changed,
                    "full": whole, "increment": size(file), "whole": report["drain"]["whole"],
                });
                out.sample("increment", &[&found]);
                parent = file;
            }
            sh("rm /tmp/full /tmp/evenly /tmp/together");
        }
    }
}

fn increment(target: &Target, parent: &str, file: &str, compress: &str) -> Value {
    take(target, &["--parent", parent, "-o", file, "--compress", compress])
}

fn size(path: &str) -> u64 {
    std::fs::metadata(path).expect("it was written").len()
}

/// What `zstd -3` makes of what a command prints.
fn compressed(command: &str) -> u64 {
    number(&format!("{command} | zstd -3 -T0 -q -c | wc -c"))
}

fn number(command: &str) -> u64 {
    sh(command).trim().parse().expect("a number")
}
