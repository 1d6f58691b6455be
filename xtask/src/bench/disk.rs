//! `cargo xtask bench disk`: one guest run, the samples it left, and the tables made of them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::frame::{self, Frame};
use crate::bench::stats::{Spread, ratio, time};
use crate::bench::table::{NOTHING, Table};
use crate::kernel::Series;
use crate::paths;

/// Measures the write window beside fsfreeze and lvcreate, what a snapshot costs writers, and how fast it is merged.
///
/// Compare within one run only: a guest without KVM is slow, and slower on a busy machine.
#[derive(clap::Args)]
pub struct Args {
    /// The guest's kernel
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
    /// Samples of each kind
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Write docs/performance-disk.md
    #[arg(long)]
    write_docs: bool,
    /// Measure nothing: the tables of the last run again, which had as many rounds
    #[arg(long)]
    again: bool,
}

const FRAME: Frame = Frame {
    name: "disk",
    programs: &[],
    arguments: "\"$FF_BENCH_ROUNDS\"",
    criu: false,
};

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let out = FRAME.results(args.kernel, "");
    if !args.again {
        let hour = Duration::from_secs(3600);
        let code = FRAME.measure(args.kernel, args.rounds, &out, |job| job.timeout = hour)?;
        if code != 0 {
            return Ok(ExitCode::from(code));
        }
    }
    let samples = frame::samples(&out, parse)?;
    let tables = [windows, several, writers, merges].map(|table| table(&samples).to_string());
    let tables = tables.join("\n");
    println!("\n{tables}");
    if args.write_docs {
        write_docs(args, &tables)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_docs(args: &Args, tables: &str) -> Result<()> {
    let command = format!(
        "cargo xtask bench disk --kernel {} --rounds {}",
        args.kernel.name(),
        args.rounds
    );
    let text = format!(
        "# Performance: filesystems\n\n\
         <!-- Written by `{command} --write-docs`. -->\n\n\
         How long those stand still who write to a filesystem while it is snapshotted, beside `fsfreeze` and `lvcreate -s` done by\n\
         hand, and what they pay afterwards. All methods of a run are measured in one guest, on one disk, under the same writers, in turn.\n\n\
         `{command}`: {} samples of each kind; kernel {} in a guest with two processors, emulated unless the host has KVM: trust\n\
         the ratios within this run, not the times.\n\n{tables}",
        args.rounds,
        args.kernel.unpacked()?.release,
    );
    frame::put(&paths::root().join("docs/performance-disk.md"), &text)
}

/// The samples of a run.
pub(super) fn parse(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).context("a line is no JSON"))
        .collect()
}

/// The figures of the samples that have these values.
pub(super) fn figures(samples: &[Value], wanted: &[(&str, &str)], figure: &str) -> Vec<u64> {
    samples
        .iter()
        .filter(|sample| wanted.iter().all(|(name, value)| sample[*name] == *value))
        .filter_map(|sample| sample[figure].as_f64())
        .map(rounded)
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and sizes"
)]
fn rounded(figure: f64) -> u64 {
    figure.max(0.0).round() as u64
}

/// The spread, and how many times the median of others is in ours.
fn beside(ours: &[u64], theirs: &[u64]) -> String {
    match (Spread::of(ours), Spread::of(theirs)) {
        (Some(ours), Some(theirs)) => ratio(ours.median, theirs.median),
        _ => NOTHING.to_owned(),
    }
}

/// The spread of times.
pub(super) fn spread(samples: &[u64]) -> String {
    Spread::of(samples).map_or_else(|| NOTHING.to_owned(), |spread| spread.to_string())
}

/// Both figures of a method, each with its ratio to what one does by hand.
fn window_and_gap(method: &str, of: impl Fn(&str, &str) -> Vec<u64>) -> [String; 4] {
    let ours = ["window_ns", "gap_ns"].map(|figure| (of(method, figure), of("fsfreeze+lvcreate", figure)));
    let [(window, window_by_hand), (gap, gap_by_hand)] = ours;
    [
        spread(&window),
        beside(&window, &window_by_hand),
        spread(&gap),
        beside(&gap, &gap_by_hand),
    ]
}

fn windows(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "The write window",
        "Median (least – greatest). By hand it goes from the start of `fsfreeze -f` to the end of `fsfreeze -u`; `gap` is the longest of \
         the writer's own writes. `lvcreate alone` is of one filesystem only, and of no processes: its window is the whole command, \
         within which LVM freezes the filesystem. The ratios are to fsfreeze and lvcreate; `–` was not measured.",
        &[
            "filesystem",
            "writer",
            "method",
            "write window",
            "ratio",
            "gap",
            "ratio",
        ],
    );
    for fs in ["ext4", "xfs"] {
        for load in ["direct", "buffered"] {
            let of = |method: &str, figure: &str| {
                let wanted = [("what", "window"), ("fs", fs), ("load", load), ("method", method)];
                figures(samples, &wanted, figure)
            };
            for method in ["freezeframe", "fsfreeze+lvcreate", "lvcreate alone"] {
                let mut row = vec![fs.to_owned(), load.to_owned(), method.to_owned()];
                row.extend(window_and_gap(method, of));
                table.row(row);
            }
        }
    }
    table
}

fn several(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Three filesystems at one instant",
        "ext4, each with a writer, all frozen before the first is thawed. Figures as above; `gap` is the longest of any writer's writes.",
        &["writer", "method", "write window", "ratio", "gap", "ratio"],
    );
    for load in ["direct", "buffered"] {
        let of = |method: &str, figure: &str| {
            let wanted = [("what", "several"), ("load", load), ("method", method)];
            figures(samples, &wanted, figure)
        };
        for method in ["freezeframe", "fsfreeze+lvcreate"] {
            let mut row = vec![load.to_owned(), method.to_owned()];
            row.extend(window_and_gap(method, of));
            table.row(row);
        }
    }
    table
}

fn writers(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "What writers pay",
        "fio, one write at a time, past the page cache: the mean time of a write, median over the rounds (least – greatest). `first`: each \
         chunk is written for the first time since the snapshot; `again`: once more; `after`: the snapshot is committed, \
         or removed. The ratios are to `before`.",
        &[
            "pattern", "snapshot", "before", "first", "ratio", "again", "ratio", "after", "ratio",
        ],
    );
    for pattern in ["sequential 1 MiB", "random 4 KiB", "random 512 B"] {
        for on in ["freezeframe", "lvm"] {
            let of = |when| {
                let wanted = [("what", "fio"), ("pattern", pattern), ("on", on), ("when", when)];
                figures(samples, &wanted, "mean_ns")
            };
            let before = of("before");
            let mut row = vec![pattern.to_owned(), on.to_owned(), spread(&before)];
            for when in ["first", "again", "after"] {
                let found = of(when);
                row.push(spread(&found));
                row.push(beside(&found, &before));
            }
            table.row(row);
        }
    }
    table
}

fn merges(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Merging back",
        "What a commit merges in a second, beside what fio writes to the same filesystem in a second before (1 MiB at a time). \
         The time is that of the whole commit, which sees the end of the merge up to a sixteenth of its time late, or 10 ms.",
        &["what was written", "merged", "MiB/s", "ratio"],
    );
    let device = figures(
        samples,
        &[
            ("what", "fio"),
            ("on", "freezeframe"),
            ("pattern", "sequential 1 MiB"),
            ("when", "before"),
        ],
        "bytes_per_second",
    );
    for pattern in ["sequential 1 MiB", "random 4 KiB", "random 512 B"] {
        let wanted = [("what", "merge"), ("pattern", pattern)];
        let (bytes, times) = (
            figures(samples, &wanted, "bytes"),
            figures(samples, &wanted, "ns"),
        );
        let rates: Vec<_> = bytes
            .iter()
            .zip(&times)
            .map(|(bytes, ns)| {
                u64::try_from(u128::from(*bytes) * 1_000_000_000 / u128::from((*ns).max(1)))
                    .unwrap_or(u64::MAX)
            })
            .collect();
        let rate =
            Spread::of(&rates).map_or_else(|| NOTHING.to_owned(), |spread| (spread.median >> 20).to_string());
        let merged = match (Spread::of(&bytes), Spread::of(&times)) {
            (Some(bytes), Some(times)) => format!("{} KiB in {}", bytes.median >> 10, time(times.median)),
            _ => NOTHING.to_owned(),
        };
        table.row(vec![pattern.to_owned(), merged, rate, beside(&rates, &device)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{figures, merges, parse, windows, writers};

    #[test]
    fn figures_are_those_that_were_asked_for() {
        let samples = parse(
            "{\"what\":\"window\",\"method\":\"freezeframe\",\"fs\":\"ext4\",\"load\":\"direct\",\"window_ns\":1000000,\"gap_ns\":2}\n\
             {\"what\":\"window\",\"method\":\"fsfreeze+lvcreate\",\"fs\":\"ext4\",\"load\":\"direct\",\"window_ns\":4000000,\"gap_ns\":8}",
        )
        .unwrap();
        assert_eq!(
            figures(&samples, &[("method", "freezeframe")], "window_ns"),
            [1_000_000]
        );
        let table = windows(&samples).to_string();
        assert!(table.contains("1/4.00"), "{table}");
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert!(writers(&[]).to_string().contains('–'));
        assert!(merges(&[]).to_string().contains('–'));
        assert!(parse("nonsense").is_err());
    }
}
