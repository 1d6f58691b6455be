//! How fast an image goes where it is wanted, and how fast others bring the same bytes there.

use std::fs::File;
use std::io::Read as _;
use std::time::Instant;

use guest_tests::device::Device;
use guest_tests::sh;
use guest_tests::target::Target;
use serde_json::{Value, json};

use crate::take::{drained, take};
use crate::{Out, larder};

/// How much memory the process has.
const MIB: u64 = 128;

/// The bytes of the image, for the others, and where everybody writes to.
const CORE: &str = "/tmp/core";
const THERE: &str = "/tmp/there";

/// What is read at once.
const PIECE: usize = 1 << 20;

/// Ours, and those that others do.
const METHODS: [&str; 10] = [
    "image to null",
    "dd to null",
    "fd read",
    "fd mapped",
    "read and BLAKE3",
    "image to file",
    "dd to file",
    "image by zstd and age",
    "zstd and age",
    "image by zstd",
];

/// What huge pages may change.
const HUGE_METHODS: usize = 4;

/// All of them in turn, in another order each time.
pub fn measure(out: &mut Out, kind: &str, rounds: usize) {
    let target = larder(MIB, kind);
    let key = key();
    take(&target, &["-o", THERE]);
    sh(&format!("tar -xOf {THERE} core.{} >{CORE}", target.pid()));
    let bytes = std::fs::metadata(CORE).expect("it was written").len();
    let mut methods = match kind {
        "small" => METHODS.to_vec(),
        _ => METHODS[..HUGE_METHODS].to_vec(),
    };
    for round in 0..rounds {
        methods.rotate_left(3);
        for method in &methods {
            sh(&format!("rm -f {THERE}"));
            let found = one(&target, method, &key);
            let case = json!({ "kind": kind, "method": method, "round": round, "bytes": bytes });
            out.sample("speed", &[&case, &found]);
        }
    }
    sh(&format!("rm -f {THERE} {CORE}"));
}

/// Whom images are encrypted to.
pub fn key() -> String {
    sh("rm -f /tmp/key && age-keygen -o /tmp/key 2>/dev/null");
    sh("age-keygen -y /tmp/key").trim().to_owned()
}

fn one(target: &Target, method: &str, key: &str) -> Value {
    let image = |options: &[&str]| {
        let report = take(target, options);
        json!({ "ns": drained(&report), "drain": report["drain"], "window_ns": report["window_ns"] })
    };
    let ns = match method {
        "image to null" => return image(&["-o", "/dev/null"]),
        "image to file" => return image(&["-o", THERE]),
        "image by zstd" => return image(&["-o", THERE, "--compress", "zstd:3"]),
        "image by zstd and age" => {
            return image(&["-o", THERE, "--compress", "zstd:3", "--encrypt-to", key]);
        }
        "dd to null" => dd("/dev/null"),
        "dd to file" => dd(THERE),
        "zstd and age" => timed(|| {
            sh(&format!("zstd -3 -T0 -q -c {CORE} | age -r {key} >{THERE}"));
        }),
        "read and BLAKE3" => timed(|| {
            let mut hasher = blake3::Hasher::new();
            read(&File::open(CORE).expect("it is there"), |piece| {
                hasher.update(piece);
            });
            std::hint::black_box(hasher.finalize());
        }),
        "fd read" => {
            let snapshot = Device::open()
                .take(&[target.pid()], 5000)
                .expect("it can be taken");
            timed(|| read(&snapshot.file, |_| ()))
        }
        "fd mapped" => mapped(target),
        other => panic!("{other}"),
    };
    json!({ "ns": ns })
}

fn timed(work: impl FnOnce()) -> u64 {
    let begin = Instant::now();
    work();
    u64::try_from(begin.elapsed().as_nanos()).expect("less than centuries")
}

/// As it says itself, which is without its start.
fn dd(to: &str) -> u64 {
    let said = sh(&format!("LC_ALL=C dd if={CORE} of={to} bs=1M 2>&1"));
    let seconds = said.rsplit(", ").nth(1).and_then(|part| part.strip_suffix(" s"));
    let seconds: f64 = seconds.and_then(|text| text.parse().ok()).expect("dd tells");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some seconds"
    )]
    let ns = (seconds * 1e9) as u64;
    ns
}

/// Reads to the end.
fn read(mut file: &File, mut with: impl FnMut(&[u8])) {
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).expect("it can be read");
        if count == 0 {
            return;
        }
        with(&piece[..count]);
    }
}

/// Maps the image piece by piece and looks at a word of each page: what it takes to have the pages before one.
fn mapped(target: &Target) -> u64 {
    let snapshot = Device::open()
        .take(&[target.pid()], 5000)
        .expect("it can be taken");
    let whole = snapshot
        .file
        .metadata()
        .expect("it is open")
        .len()
        .max(snapshot.take.image_bytes);
    timed(|| {
        let mut at = 0;
        while at < whole {
            let bytes = usize::try_from(whole - at).expect("small").min(PIECE);
            let piece = snapshot
                .map(at, bytes, libc::PROT_READ, libc::MAP_SHARED)
                .expect("it can be mapped");
            let sum: u64 = piece
                .bytes()
                .iter()
                .step_by(4096)
                .map(|byte| u64::from(*byte))
                .sum();
            std::hint::black_box(sum);
            at += bytes as u64;
        }
    })
}
