//! The windows that were reported, beside the gaps that the targets saw themselves.

use crate::bench::sample::{Gap, Samples};
use crate::bench::stats::Spread;
use crate::bench::table::{NOTHING, Table};
use crate::bench::tables::label;

/// How far what was reported and what the target saw may lie apart: a fifth, or 50 µs.
const APART_NS: u64 = 50_000;

/// The windows of a method that targets with rseq, or without, watched: what was reported, and what they saw.
fn pairs(samples: &Samples, method: &str, rseq: bool) -> Vec<(u64, Gap)> {
    let watched = samples.watched.iter();
    watched
        .filter(|watched| watched.method == method && watched.rseq == rseq)
        .filter_map(|watched| Some((watched.ns, watched.gap?)))
        .collect()
}

/// How many samples were compared, in how many both agree, and the differences.
pub fn compared(samples: &Samples, method: &str, rseq: bool) -> (usize, usize, Vec<u64>) {
    let pairs = pairs(samples, method, rseq);
    let agree = pairs
        .iter()
        .filter(|(ns, gap)| ns.abs_diff(gap.ns) <= (ns / 5).max(APART_NS));
    let apart = pairs.iter().map(|(ns, gap)| ns.abs_diff(gap.ns)).collect();
    (pairs.len(), agree.count(), apart)
}

/// Which targets.
pub const fn suffix(rseq: bool) -> &'static str {
    if rseq { "" } else { ", without rseq" }
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
             200 ms was {baseline}: nothing is subtracted. glibc registers an rseq area for every thread, to which the kernel \
             writes whenever a thread that was stopped goes back to user mode (`__rseq_handle_notify_resume()`): the first \
             write to an armed page, which has to be copied, and with `--arm pud` to an armed gigabyte, whose page tables have to be \
             walked. Targets without rseq (`GLIBC_TUNABLES=glibc.pthread.rseq=0`) do not wait for that after the window."
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
    let arms = samples.guest.arms.iter();
    for (arm, rseq) in arms.flat_map(|arm| [(arm, true), (arm, false)]) {
        let (all, agree, apart) = compared(samples, arm, rseq);
        let pairs = pairs(samples, arm, rseq);
        let windows: Vec<_> = pairs.iter().map(|(ns, _)| *ns).collect();
        let after: Vec<_> = pairs.iter().map(|(_, gap)| gap.after).collect();
        if let Some(spread) = Spread::of(&apart) {
            table.row(vec![
                format!("{}{}", label(arm), suffix(rseq)),
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
                "{{\"what\":\"watched\",\"method\":\"eager\",\"rseq\":true,\
                 \"gaps\":[[{begin},{length}]],\"report\":{{\"window_ns\":{ns},\"phases\":[\
                 {{\"name\":\"freeze_tasks\",\"start_ns\":1000,\"duration_ns\":1}},\
                 {{\"name\":\"thaw_tasks\",\"start_ns\":1001,\"duration_ns\":1}}]}}}}\n"
            )
        };
        let text = line(30_000, 990, 79_000) + &line(10_000_000, 990, 12_100_000) + &line(7, 5_000, 7);
        let samples = Samples::parse(&text).unwrap();
        assert_eq!(compared(&samples, "eager", true), (2, 1, vec![49_000, 2_100_000]));
        assert_eq!(compared(&samples, "eager", false).0, 0);
    }
}
