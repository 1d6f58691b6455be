//! What was measured.

use serde_json::Value;

use crate::bench::disk::{figures, spread};
use crate::bench::stats::{Spread, ratio};
use crate::bench::table::{NOTHING, Table};

/// All tables, the goals aside.
pub fn all(samples: &[Value]) -> Vec<Table> {
    vec![
        speeds(samples),
        memory(samples),
        copies(samples),
        sizes(samples),
        increments(samples),
    ]
}

/// The median of what the samples with these values have.
pub fn median(samples: &[Value], wanted: &[(&str, &str)], figure: &str) -> Option<u64> {
    Spread::of(&figures(samples, wanted, figure)).map(|spread| spread.median)
}

fn count(samples: &[u64]) -> String {
    Spread::of(samples).map_or_else(
        || NOTHING.to_owned(),
        |spread| format!("{} ({} – {})", spread.median, spread.min, spread.max),
    )
}

fn beside(ours: Option<u64>, of: Option<u64>) -> String {
    ours.zip(of)
        .map_or_else(|| NOTHING.to_owned(), |(ours, of)| ratio(ours, of))
}

/// What is compared with what.
const PEERS: [(&str, &[&str]); 3] = [
    (
        "dd to null",
        &["image to null", "fd read", "fd mapped", "read and BLAKE3"],
    ),
    ("dd to file", &["image to file"]),
    ("zstd and age", &["image by zstd and age", "image by zstd"]),
];

/// Where it is told how a method works.
fn called(method: &str) -> &str {
    match method {
        "dd to null" => "`dd bs=1M` to `/dev/null`",
        "dd to file" => "`dd bs=1M` to a file",
        "zstd and age" => "`zstd -3 -T0 \\| age` to a file",
        "image to null" => "image to `/dev/null`",
        "image to file" => "image to a file",
        "image by zstd and age" => "image, `--compress zstd:3 --encrypt-to`, to a file",
        "image by zstd" => "image, `--compress zstd:3`, to a file",
        "fd read" => "the module's descriptor, by `read()`",
        "fd mapped" => "the module's descriptor, mapped and looked at",
        "read and BLAKE3" => "`read()` of the same bytes and BLAKE3 of them",
        other => other,
    }
}

fn speeds(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Throughput",
        "128 MiB, in pages of 4 KiB and in huge pages. Of ours the time is that of the phase `drain`, from the descriptor to the image under its \
         name; `dd`'s is what it says itself; the others are timed from their start to their end. Median (least – greatest); the \
         last column is the speed as a part of the first row's of each group. `waited for`: the stage that the others waited for, and \
         how long.",
        &["pages", "method", "time", "MiB/s", "waited for", "ratio"],
    );
    for kind in ["small", "huge"] {
        for (peer, ours) in PEERS {
            for method in [peer].iter().chain(ours) {
                let wanted = [("what", "speed"), ("kind", kind), ("method", method)];
                let times = figures(samples, &wanted, "ns");
                if kind == "huge" && times.is_empty() {
                    continue;
                }
                let own = median(samples, &wanted, "ns");
                let bytes = median(samples, &wanted, "bytes");
                let peer = [("what", "speed"), ("kind", kind), ("method", peer)];
                table.row(vec![
                    kind.to_owned(),
                    called(method).to_owned(),
                    spread(&times),
                    rate(bytes, own),
                    slowest(samples, &wanted),
                    beside(median(samples, &peer, "ns"), own),
                ]);
            }
        }
    }
    table
}

fn rate(bytes: Option<u64>, ns: Option<u64>) -> String {
    let rate = bytes.zip(ns).map(|(bytes, ns)| {
        let per_second = u128::from(bytes) * 1_000_000_000 / u128::from(ns.max(1));
        (per_second >> 20).to_string()
    });
    rate.unwrap_or_else(|| NOTHING.to_owned())
}

/// The stage that had the others wait in the first sample that tells, and for how long.
fn slowest(samples: &[Value], wanted: &[(&str, &str)]) -> String {
    let mut found = samples
        .iter()
        .filter(|sample| wanted.iter().all(|(name, value)| sample[*name] == *value));
    let stages = found.find_map(|sample| sample["drain"]["stages"].as_array());
    let Some(stages) = stages else {
        return NOTHING.to_owned();
    };
    let ns = |stage: Option<&Value>, name: &str| stage.and_then(|stage| stage[name].as_u64()).unwrap_or(0);
    let all = (0..stages.len()).map(|index| {
        let before = index.checked_sub(1).and_then(|before| stages.get(before));
        let waited = ns(before, "blocked_ns").max(ns(stages.get(index + 1), "waited_ns"));
        (waited, stages[index]["name"].as_str().unwrap_or_default())
    });
    // The first stage itself waits for the snapshot's pages and their sums.
    let pages = (ns(stages.first(), "waited_ns"), "pages and sums");
    all.chain([pages]).max().map_or_else(
        || NOTHING.to_owned(),
        |(waited, name)| format!("{name}, {}", crate::bench::stats::time(waited)),
    )
}

fn memory(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Memory of the controller",
        "The most that was resident at once (`ru_maxrss`), in KiB; with that, as looked at every 20 ms, what was its own and what was of files: \
         the program and its libraries. Pages of the snapshot that it has mapped are not counted by the kernel, for they belong to the \
         snapshot: at most 8 MiB at once.",
        &[
            "process",
            "image to `/dev/null`",
            "resident",
            "its own",
            "of files",
        ],
    );
    for mib in [128, 512] {
        for method in ["plain", "zstd and age"] {
            let found = |figure| {
                let wanted = [("what", "memory"), ("method", method)];
                let of_size = samples.iter().filter(|sample| sample["mib"] == mib);
                figures(&of_size.cloned().collect::<Vec<_>>(), &wanted, figure)
            };
            let resident = found("rss_kib");
            if resident.is_empty() {
                continue;
            }
            table.row(vec![
                format!("{mib} MiB"),
                method.to_owned(),
                count(&resident),
                count(&found("anonymous_kib")),
                count(&found("file_kib")),
            ]);
        }
    }
    table
}

/// What is let go when, and what goes first.
const WAYS: [[&str; 2]; 3] = [["off", "address"], ["on", "address"], ["on", "likely"]];

fn copies(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Pages copied by a steady writer",
        "A process of 64 MiB (pages of 4 KiB), of which a quarter is written all the time, in any order: every fourth region of 2 MiB, or the \
         middle. The image is read with `--rate 8MiB`, which takes eight seconds; in that time the writer writes twice as often as there \
         are hot pages. Before a `first` snapshot there was none, before a `later` one there was one a second ago. \
         `copied`: `pages_broken` of the report. `moved`: pages of that memory that were in another frame afterwards, \
         by `/proc/PID/pagemap`, which the report knows nothing of. The ratio is to the first row of each group.",
        &[
            "hot",
            "snapshot",
            "drop-behind",
            "order",
            "copied",
            "moved",
            "minor faults",
            "ratio",
        ],
    );
    for hot in ["regions", "middle"] {
        for snapshot in ["first", "later"] {
            for [behind, order] in WAYS {
                let wanted = wanted_copies(hot, snapshot, [behind, order]);
                let without = wanted_copies(hot, snapshot, WAYS[0]);
                table.row(vec![
                    hot.to_owned(),
                    snapshot.to_owned(),
                    behind.to_owned(),
                    order.to_owned(),
                    count(&figures(samples, &wanted, "pages_broken")),
                    count(&figures(samples, &wanted, "moved")),
                    count(&figures(samples, &wanted, "faults")),
                    beside(
                        median(samples, &wanted, "pages_broken"),
                        median(samples, &without, "pages_broken"),
                    ),
                ]);
            }
        }
    }
    table
}

/// The samples of a way.
pub fn wanted_copies<'a>(
    hot: &'a str,
    snapshot: &'a str,
    [behind, order]: [&'a str; 2],
) -> [(&'a str, &'a str); 5] {
    [
        ("what", "copies"),
        ("hot", hot),
        ("snapshot", snapshot),
        ("drop_behind", behind),
        ("order", order),
    ]
}

fn mib(bytes: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mib = |bytes: u64| format!("{:.2} MiB", bytes as f64 / 1_048_576.0);
    bytes.map_or_else(|| NOTHING.to_owned(), mib)
}

fn sizes(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Sizes",
        "Of one process of 512 MiB, of which half is text and half is random. All but the second row are compressed by `zstd -3`, criu's folder as a \
         tar; `--compress` makes frames of 1 MiB, which are compressed side by side, and stand alone. The ratio is of what was compressed, to gcore's.",
        &["what", "as it is", "compressed", "ratio"],
    );
    let of = |method, figure| median(samples, &[("what", "size"), ("method", method)], figure);
    for (method, called) in [
        ("image", "image"),
        ("image by zstd", "image, `--compress zstd:3`"),
        ("gcore", "`gcore`"),
        ("criu", "`criu dump`"),
    ] {
        table.row(vec![
            called.to_owned(),
            mib(of(method, "raw")),
            mib(of(method, "compressed")),
            precise(of(method, "compressed"), of("gcore", "compressed")),
        ]);
    }
    table
}

fn precise(one: Option<u64>, of: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let ratio = |(one, of): (u64, u64)| format!("{:.4}", one as f64 / of.max(1) as f64);
    one.zip(of).map_or_else(|| NOTHING.to_owned(), ratio)
}

/// The samples of an increment.
pub fn wanted_increment<'a>(kind: &'a str, compress: &'a str, changed: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("what", "increment"),
        ("kind", kind),
        ("compress", compress),
        ("changed", changed),
    ]
}

fn increments(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Increments",
        "Of a process of 256 MiB, after a hundredth of its pages was written anew: all over it, or side by side. The kernel has one bit for \
         what was written in a huge page, so all of it counts as changed.",
        &["pages", "`--compress`", "changed", "full", "increment", "ratio"],
    );
    for kind in ["small", "huge"] {
        for compress in ["none", "zstd:3"] {
            for changed in ["evenly", "together"] {
                let wanted = wanted_increment(kind, compress, changed);
                let [full, increment] = ["full", "increment"].map(|figure| median(samples, &wanted, figure));
                table.row(vec![
                    kind.to_owned(),
                    compress.to_owned(),
                    changed.to_owned(),
                    mib(full),
                    mib(increment),
                    precise(increment, full),
                ]);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{all, slowest};
    use crate::bench::disk::parse;

    #[test]
    fn speeds_are_a_part_of_the_peers() {
        let samples = parse(
            "{\"what\":\"speed\",\"kind\":\"small\",\"method\":\"dd to null\",\"bytes\":1048576,\"ns\":500000000}\n\
             {\"what\":\"speed\",\"kind\":\"small\",\"method\":\"image to null\",\"bytes\":1048576,\"ns\":1000000000,\
             \"drain\":{\"stages\":[{\"name\":\"read\",\"waited_ns\":7,\"blocked_ns\":2},{\"name\":\"write\",\"waited_ns\":3000,\"blocked_ns\":0}]}}",
        )
        .unwrap();
        let table = all(&samples).remove(0);
        assert_eq!(table.rows[1][3], "1");
        assert_eq!(table.rows[1][5], "0.50");
        assert_eq!(slowest(&samples, &[("method", "image to null")]), "read, 3.00 µs");
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        for table in all(&[]) {
            for row in &table.rows {
                assert!(row.iter().any(|cell| cell == "–"), "{row:?}");
            }
        }
    }
}
