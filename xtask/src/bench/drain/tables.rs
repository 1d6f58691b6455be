//! What was measured.

use serde_json::Value;

use super::speed::{host, speeds};
use crate::bench::disk::figures;
use crate::bench::stats::{Spread, ratio};
use crate::bench::table::{NOTHING, Table};

/// All tables, the goals aside.
pub fn all(samples: &[Value]) -> Vec<Table> {
    vec![
        speeds(samples),
        host(samples),
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

/// How many times one is in the other.
pub fn beside(ours: Option<u64>, of: Option<u64>) -> String {
    ours.zip(of)
        .map_or_else(|| NOTHING.to_owned(), |(ours, of)| ratio(ours, of))
}

fn memory(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Memory of the controller",
        "The most that was resident at once (`ru_maxrss`), in KiB; with that, as looked at every 20 ms, what was its own and what was of files: \
         the program and its libraries. Pages of the snapshot that it has mapped are in neither: they belong to \
         the snapshot, and the kernel does not count them.",
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
    use super::all;

    #[test]
    fn nothing_measured_is_no_figure() {
        for table in all(&[]) {
            for row in &table.rows {
                assert!(row.iter().any(|cell| cell == "–"), "{row:?}");
            }
        }
    }
}
