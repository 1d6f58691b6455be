//! How many pages are copied because a steady writer is faster than the drain.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::target::{Target, numbers};
use serde_json::json;

use crate::take::{drained, take};
use crate::{Out, larder};

/// How much memory the process has, in MiB; a quarter of it is hot.
const MIB: u64 = 64;

/// The drain takes eight seconds, and the hot quarter is written as often as it has pages in four.
const RATE: &str = "8MiB";
const WRITES_PER_SECOND: u64 = MIB * 256 / 4 / 4;

/// How long the writer writes before each snapshot.
const BEFORE: Duration = Duration::from_secs(1);

/// What is let go when, and what goes first.
const WAYS: [[&str; 2]; 3] = [["off", "address"], ["on", "address"], ["on", "likely"]];

/// Each way in turn, of a first snapshot and of one that has another before it.
pub fn measure(out: &mut Out, rounds: usize) {
    let mut ways = WAYS;
    for round in 0..rounds {
        ways.rotate_left(1);
        for hot in ["regions", "middle"] {
            for snapshot in ["first", "later"] {
                for [behind, order] in ways {
                    let case = json!({
                        "hot": hot, "snapshot": snapshot, "drop_behind": behind, "order": order, "round": round,
                    });
                    out.sample("copies", &[&case, &one(hot, snapshot, behind, order)]);
                }
            }
        }
    }
}

fn one(hot: &str, snapshot: &str, behind: &str, order: &str) -> serde_json::Value {
    let mut target = larder(MIB, "small");
    target.tell(&format!("write {hot} {WRITES_PER_SECOND}"));
    sleep(BEFORE);
    if snapshot == "later" {
        take(&target, &[]);
        sleep(BEFORE);
    }
    let (frames, faults) = (frames(&target), faults(&target));
    let options = [
        "-o",
        "/dev/null",
        "--rate",
        RATE,
        "--drop-behind",
        behind,
        "--order",
        order,
    ];
    let report = take(&target, &options);
    let moved = frames
        .iter()
        .zip(self::frames(&target))
        .filter(|(before, after)| **before != *after);
    let (moved, faults) = (moved.count(), self::faults(&target) - faults);
    let written = numbers(&target.tell("stop"))["written"];
    json!({
        "pages_broken": report["drain"]["pages_broken"],
        "moved": moved,
        "faults": faults,
        "written": written,
        "hot_pages": MIB * 256 / 4,
        "ns": drained(&report),
    })
}

/// Where its pages lie: whoever copies a page before he writes to it has it elsewhere afterwards.
fn frames(target: &Target) -> Vec<u64> {
    let map = File::open(format!("/proc/{}/pagemap", target.pid())).expect("it lives");
    let mut entries = vec![0; usize::try_from(target.at("pages")).expect("small") * 8];
    map.read_exact_at(&mut entries, target.at("base") / 4096 * 8)
        .expect("it is mapped");
    let frame = |entry: &[u8]| u64::from_ne_bytes(entry.try_into().expect("8 bytes")) & ((1 << 55) - 1);
    entries.chunks_exact(8).map(frame).collect()
}

/// Its page faults that needed no disk.
fn faults(target: &Target) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", target.pid())).expect("it lives");
    let fields = stat.rsplit(") ").next().expect("a state follows");
    fields
        .split(' ')
        .nth(7)
        .and_then(|field| field.parse().ok())
        .expect("a number")
}
