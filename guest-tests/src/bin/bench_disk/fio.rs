//! What a snapshot costs the writers: fio before it, while chunks are written for the first time, once more, and after it is gone;
//! and how fast a store is merged back.

use std::time::Instant;

use guest_tests::disk::base::lvm;
use guest_tests::disk::fs::Mount;
use guest_tests::disk::snapshot::What;
use guest_tests::sh;
use serde_json::{Value, json};

use crate::Bench;

/// MiB that each pass writes.
const PASS: u32 = 48;

/// What fio writes: a name, the pattern, the block size.
const PATTERNS: [(&str, &str, &str); 3] = [
    ("sequential 1 MiB", "write", "1m"),
    ("random 4 KiB", "randwrite", "4k"),
    ("random 512 B", "randwrite", "512"),
];

/// Each round: all patterns on both filesystems, each through the life of a snapshot.
pub fn measure(bench: &mut Bench, rounds: usize) {
    for mount in [&bench.ours, &bench.theirs] {
        // Room for all, written: what is measured later allocates nothing.
        sh(&format!(
            "dd if=/dev/zero of={} bs=1M count={PASS} conv=fsync status=none",
            mount.path("fio")
        ));
    }
    for round in 0..rounds {
        for pattern in PATTERNS {
            ours(bench, pattern, round);
            theirs(bench, pattern, round);
        }
    }
}

/// One pass over the whole file; small blocks go over a part of it, or they would take too long.
fn fio(mount: &Mount, (_, pattern, block): (&str, &str, &str)) -> Value {
    let size = match block {
        "512" => "2m",
        "4k" => "16m",
        _ => "48m",
    };
    let text = sh(&format!(
        "fio --name=pass --filename={} --rw={pattern} --bs={block} --size={size} --direct=1 --ioengine=psync --randrepeat=1 \
         --output-format=json 2>/dev/null",
        mount.path("fio")
    ));
    let report: Value = serde_json::from_str(&text).expect("fio reports JSON");
    let write = &report["jobs"][0]["write"];
    json!({
        "bytes_per_second": write["bw_bytes"],
        "mean_ns": write["clat_ns"]["mean"],
        "median_ns": write["clat_ns"]["percentile"]["50.000000"],
    })
}

fn sample(bench: &mut Bench, on: &str, pattern: &str, when: &str, round: usize, found: &Value) {
    let mut line = json!({ "on": on, "pattern": pattern, "when": when, "round": round });
    let target = line.as_object_mut().expect("made above");
    target.extend(found.as_object().expect("named values").clone());
    bench.out.sample("fio", &line);
}

fn ours(bench: &mut Bench, pattern: (&str, &str, &str), round: usize) {
    let before = fio(&bench.ours, pattern);
    sample(bench, "freezeframe", pattern.0, "before", round, &before);
    let what = What {
        mounts: vec![&bench.ours.dir],
        store: &bench.store,
        ..What::default()
    };
    let snapshot = what.take();
    for when in ["first", "again"] {
        let found = fio(&bench.ours, pattern);
        sample(bench, "freezeframe", pattern.0, when, round, &found);
    }
    let merged = snapshot.commit_measured();
    let merge = json!({
        "pattern": pattern.0, "round": round, "bytes": merged["merged_bytes"], "ns": merged["merge_ns"],
    });
    bench.out.sample("merge", &merge);
    let after = fio(&bench.ours, pattern);
    sample(bench, "freezeframe", pattern.0, "after", round, &after);
}

fn theirs(bench: &mut Bench, pattern: (&str, &str, &str), round: usize) {
    let before = fio(&bench.theirs, pattern);
    sample(bench, "lvm", pattern.0, "before", round, &before);
    lvm("lvcreate -q -y -s -L 500M -c 4k -n snap vg/volume");
    for when in ["first", "again"] {
        let found = fio(&bench.theirs, pattern);
        sample(bench, "lvm", pattern.0, when, round, &found);
    }
    let begin = Instant::now();
    lvm("lvremove -q -y vg/snap");
    let removed = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let after = fio(&bench.theirs, pattern);
    sample(bench, "lvm", pattern.0, "after", round, &after);
    bench.out.sample(
        "remove",
        &json!({ "pattern": pattern.0, "round": round, "ns": removed }),
    );
}
