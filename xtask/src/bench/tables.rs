//! The tables, made of the samples.

use crate::bench::sample::{Case, FORK, Samples};
use crate::bench::stats::{Spread, ratio, slope, time};
use crate::bench::table::{NOTHING, Table};
use crate::bench::{afterwards, agreement};

/// The sizes that are measured, in MiB.
pub const SIZES: [u64; 4] = [64, 256, 512, 1024];

/// All of them.
pub fn all(samples: &Samples) -> Vec<Table> {
    let mut tables = vec![
        by_size(samples, false),
        ratios(samples, false),
        by_size(samples, true),
        ratios(samples, true),
        by_number(samples),
        shared(samples),
        freezes(samples),
        afterwards::table(samples),
        agreement::table(samples),
    ];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// What was measured, in the order in which it is shown.
pub fn methods(samples: &Samples) -> Vec<String> {
    let mut methods = vec![FORK.to_owned()];
    let found = |name: &str| samples.windows.iter().any(|window| window.method == name);
    methods.extend(
        ["redis", "criu"]
            .map(str::to_owned)
            .into_iter()
            .filter(|name| found(name)),
    );
    methods.extend(samples.guest.arms.iter().cloned());
    methods
}

/// What people call a method.
pub fn label(method: &str) -> String {
    match method {
        FORK => "`fork()`".to_owned(),
        "redis" => "Redis' BGSAVE".to_owned(),
        "criu" => "`criu dump`".to_owned(),
        "none" => "nothing".to_owned(),
        arm => format!("`--arm {arm}`"),
    }
}

/// One process with one thread and so much memory.
pub const fn alone(mib: u64, huge: bool) -> Case {
    Case {
        mib,
        huge,
        threads: 1,
        processes: 1,
    }
}

/// A method's samples of a case, taken together.
pub fn spread(samples: &Samples, method: &str, case: Case) -> Option<Spread> {
    Spread::of(&samples.of(method, |found| *found == case))
}

const fn pages(huge: bool) -> &'static str {
    if huge {
        "huge pages (THP)"
    } else {
        "pages of 4 KiB"
    }
}

fn by_size(samples: &Samples, huge: bool) -> Table {
    let mut table = Table::new(
        &format!("The window, by size, {}", pages(huge)),
        "One process with one thread, which sleeps. Median (min – max). For `fork()`, the time in the system call; for Redis, \
         `latest_fork_usec`; for criu, its frozen time.",
        &["", "64 MiB", "256 MiB", "512 MiB", "1 GiB", "per GiB more"],
    );
    for method in methods(samples) {
        let found = SIZES.map(|mib| spread(samples, &method, alone(mib, huge)));
        if found.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![label(&method)];
        row.extend(
            found
                .iter()
                .map(|spread| spread.map_or(NOTHING.to_owned(), |spread| spread.to_string())),
        );
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds at most")]
        let points: Vec<_> = SIZES
            .iter()
            .zip(found)
            .filter_map(|(mib, spread)| Some((*mib as f64 / 1024.0, spread?.median as f64)))
            .collect();
        row.push(slope(&points).map_or(NOTHING.to_owned(), growth));
        table.row(row);
    }
    table
}

/// A slope in nanoseconds, for people.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded for people"
)]
fn growth(slope: f64) -> String {
    let sign = if slope < 0.0 { "−" } else { "" };
    format!("{sign}{}", time(slope.abs() as u64))
}

fn ratios(samples: &Samples, huge: bool) -> Table {
    let mut table = Table::new(
        &format!("The window / `fork()`, {}", pages(huge)),
        "Medians of the same run.",
        &["", "64 MiB", "256 MiB", "512 MiB", "1 GiB"],
    );
    for method in methods(samples).into_iter().skip(1) {
        let cells = SIZES.map(|mib| {
            let fork = spread(samples, FORK, alone(mib, huge));
            let ours = spread(samples, &method, alone(mib, huge));
            ours.zip(fork).map(|(ours, fork)| ratio(ours.median, fork.median))
        });
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or(NOTHING.to_owned()));
            table.row([label(&method)].into_iter().chain(cells).collect());
        }
    }
    table
}

fn by_number(samples: &Samples) -> Table {
    const NUMBERS: [(u64, u64); 4] = [(1, 1), (8, 1), (64, 1), (1, 16)];
    let mut table = Table::new(
        "The window, by threads and processes",
        "256 MiB in all, pages of 4 KiB; the threads sleep. For `fork()`, the sum of the forks of all processes.",
        &["", "1 thread", "8 threads", "64 threads", "16 processes"],
    );
    for method in [FORK.to_owned()]
        .into_iter()
        .chain(samples.guest.arms.iter().cloned())
    {
        let cells = NUMBERS.map(|(threads, processes)| {
            let case = Case {
                mib: 256,
                huge: false,
                threads,
                processes,
            };
            spread(samples, &method, case).map_or(NOTHING.to_owned(), |spread| spread.to_string())
        });
        table.row([label(&method)].into_iter().chain(cells).collect());
    }
    table
}

fn shared(samples: &Samples) -> Table {
    let mut table = Table::new(
        "The window, shared memory",
        "One process whose memory is `MAP_SHARED | MAP_ANONYMOUS`. `--arm eager` copies it in the window; `fork()` would not copy it \
         at all.",
        &["", "64 MiB", "/ eager", "256 MiB", "/ eager"],
    );
    if samples.shared.is_empty() {
        return table;
    }
    let of = |method: &str, mib: u64| {
        let wanted = samples
            .shared
            .iter()
            .filter(|sample| sample.method == method && sample.mib == mib);
        Spread::of(&wanted.map(|sample| sample.ns).collect::<Vec<_>>())
    };
    for method in &samples.guest.arms {
        let mut row = vec![label(method)];
        for mib in [64, 256] {
            let (ours, eager) = (of(method, mib), of("eager", mib));
            row.push(ours.map_or(NOTHING.to_owned(), |spread| spread.to_string()));
            let of = ours.zip(eager);
            row.push(of.map_or(NOTHING.to_owned(), |(ours, eager)| {
                ratio(ours.median, eager.median)
            }));
        }
        table.row(row);
    }
    table
}

/// The samples of a way of freezing.
pub fn freeze(samples: &Samples, method: &str, spinning: u64) -> Option<Spread> {
    let samples = samples.freezes.iter();
    let wanted = samples.filter(|sample| sample.method == method && sample.spinning == spinning);
    Spread::of(&wanted.map(|sample| sample.ns).collect::<Vec<_>>())
}

fn freezes(samples: &Samples) -> Table {
    let mut table = Table::new(
        "Stopping 64 threads",
        "The phase `freeze_tasks`. Busy threads compete for the guest's processors; the others sleep.",
        &["", "8 busy", "/ signal", "64 busy", "/ signal"],
    );
    for method in &samples.guest.freezes {
        let mut row = vec![format!("`--freeze {method}`")];
        for spinning in [8, 64] {
            let (ours, signal) = (
                freeze(samples, method, spinning),
                freeze(samples, "signal", spinning),
            );
            row.push(ours.map_or(NOTHING.to_owned(), |spread| spread.to_string()));
            let of = ours.zip(signal);
            row.push(of.map_or(NOTHING.to_owned(), |(ours, signal)| {
                ratio(ours.median, signal.median)
            }));
        }
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let mut text =
            String::from(r#"{"what":"guest","kernel":"6.12","arms":["eager"],"freezes":["ipi","signal"]}"#);
        for (method, factor) in [("fork", 1000), ("eager", 100)] {
            for mib in SIZES {
                text += &format!(
                    "\n{{\"what\":\"window\",\"method\":\"{method}\",\"ns\":{},\"mib\":{mib},\"huge\":false,\"threads\":1,\"processes\":1}}",
                    mib * factor
                );
            }
        }
        Samples::parse(&text).unwrap()
    }

    #[test]
    fn growth_is_per_gib() {
        let table = by_size(&samples(), false);
        assert_eq!(table.rows[0][0], "`fork()`");
        assert_eq!(table.rows[0][5], "1.02 ms");
        assert_eq!(table.rows[1][5], "102 µs");
    }

    #[test]
    fn ratios_are_of_medians() {
        assert_eq!(
            ratios(&samples(), false).rows,
            [["`--arm eager`", "1/10.0", "1/10.0", "1/10.0", "1/10.0"]]
        );
    }

    #[test]
    fn what_was_not_measured_has_no_table() {
        assert!(by_size(&samples(), true).rows.is_empty());
        assert!(agreement::table(&samples()).rows.is_empty());
    }
}
