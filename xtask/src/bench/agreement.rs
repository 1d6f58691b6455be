//! The windows that were reported, beside the gaps that the targets saw themselves.

use crate::bench::sample::{Gap, Samples};
use crate::bench::stats::Spread;
use crate::bench::table::{NOTHING, Table};
use crate::bench::tables::label;

/// How far what was reported and what the target saw may lie apart: a fifth, or 50 µs.
const APART_NS: u64 = 50_000;

/// The windows of a method that targets watched: what was reported, and what they saw.
fn pairs(samples: &Samples, method: &str) -> Vec<(u64, Gap)> {
    let windows = samples.watched.iter().filter(|window| window.method == method);
    windows
        .filter_map(|window| Some((window.ns, window.gap?)))
        .collect()
}

/// How many samples were compared, in how many both agree, and the differences.
pub fn compared(samples: &Samples, method: &str) -> (usize, usize, Vec<u64>) {
    let pairs = pairs(samples, method);
    let agree = pairs
        .iter()
        .filter(|(ns, gap)| ns.abs_diff(gap.ns) <= (ns / 5).max(APART_NS));
    let apart = pairs.iter().map(|(ns, gap)| ns.abs_diff(gap.ns)).collect();
    (pairs.len(), agree.count(), apart)
}

/// The comparison, by mode.
pub fn table(samples: &Samples) -> Table {
    let baseline = Spread::of(&samples.baselines).map_or(NOTHING.to_owned(), |spread| spread.to_string());
    let mut table = Table::new(
        "The window as the target saw it",
        &format!(
            "More snapshots, of some of the processes above (all sizes taken together), while a thread of the target reads a clock \
             all the time on the other processor, which has to be told to stop: the gap in which the window fell, beside the \
             window that was reported. They agree when they differ by a fifth at most, or by 50 µs. Without any snapshot, the longest gap in \
             200 ms was {baseline}: nothing is subtracted."
        ),
        &[
            "",
            "samples",
            "window",
            "agree",
            "difference",
            "kept after the window",
        ],
    );
    for arm in &samples.guest.arms {
        let (all, agree, apart) = compared(samples, arm);
        let windows: Vec<_> = pairs(samples, arm).iter().map(|(ns, _)| *ns).collect();
        let after: Vec<_> = pairs(samples, arm).iter().map(|(_, gap)| gap.after).collect();
        if let Some(spread) = Spread::of(&apart) {
            table.row(vec![
                label(arm),
                all.to_string(),
                Spread::of(&windows).map_or(NOTHING.to_owned(), |spread| spread.to_string()),
                agree.to_string(),
                spread.to_string(),
                Spread::of(&after).map_or(NOTHING.to_owned(), |spread| spread.to_string()),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_windows_may_be_fifty_microseconds_off() {
        let line = |ns, begin, length| {
            format!(
                "{{\"what\":\"watched\",\"method\":\"eager\",\"mib\":64,\"threads\":1,\"processes\":1,\
                 \"gaps\":[[{begin},{length}]],\"report\":{{\"window_ns\":{ns},\"phases\":[\
                 {{\"name\":\"freeze_tasks\",\"start_ns\":1000,\"duration_ns\":1}},\
                 {{\"name\":\"thaw_tasks\",\"start_ns\":1001,\"duration_ns\":1}}]}}}}\n"
            )
        };
        let text = line(30_000, 990, 79_000) + &line(10_000_000, 990, 12_100_000) + &line(7, 5_000, 7);
        let samples = Samples::parse(&text).unwrap();
        assert_eq!(compared(&samples, "eager"), (2, 1, vec![49_000, 2_100_000]));
    }
}
