//! What writers pay after a fork, and after a snapshot.

use crate::bench::sample::{FORK, Samples, Writes};
use crate::bench::stats::{Spread, ratio};
use crate::bench::table::{NOTHING, Table};
use crate::bench::tables::label;

/// What writers paid after a method, each run as one number: the median write of a part, or the longest.
pub fn written(samples: &Samples, method: &str, of: impl Fn(&Writes) -> Option<u64>) -> Option<Spread> {
    let samples = samples.writes.iter();
    Spread::of(
        &samples
            .filter(|sample| sample.method == method)
            .filter_map(of)
            .collect::<Vec<_>>(),
    )
}

/// Of fewer writes, the first one says more about waking up than about writing.
const FEW: usize = 20;

/// The median write while the snapshot was finalised; where that took no time worth mention, there is none.
pub fn write_during(writes: &Writes) -> Option<u64> {
    (writes.during.len() >= FEW).then_some(Spread::of(&writes.during)?.median)
}

/// The median write after that.
pub fn write_after(writes: &Writes) -> Option<u64> {
    Some(Spread::of(&writes.after)?.median)
}

/// The table.
pub fn table(samples: &Samples) -> Table {
    let mib = samples.writes.first().map_or(0, |sample| sample.mib);
    let mut table = Table::new(
        "Afterwards: first writes, and the longest of all",
        &format!(
            "One thread writes to every seventh page of {mib} MiB (4 KiB pages), over and over, while the child or the \
             snapshot is still there. First writes: the median, in every run, of those in the second after the window, \
             while the snapshot was being finalised (where it was over before {FEW} writes, none) and then. Longest: from the end of the window on; what the machine \
             does by itself is in the row `nothing`, and with page faults that no snapshot is behind, in that of `fork()`."
        ),
        &[
            "after",
            "first write, finalising",
            "/ fork",
            "first write, then",
            "/ fork",
            "longest write",
            "/ one fork()",
        ],
    );
    let fork_write = written(samples, FORK, write_after);
    let one_fork = written(samples, FORK, |sample| Some(sample.ns));
    let of = |ours: Option<Spread>, fork: Option<Spread>| {
        ours.zip(fork)
            .map_or(NOTHING.to_owned(), |(ours, fork)| ratio(ours.median, fork.median))
    };
    let text = |spread: Option<Spread>| spread.map_or(NOTHING.to_owned(), |spread| spread.to_string());
    let arms = samples.guest.arms.iter().map(String::as_str);
    for method in ["none", FORK].into_iter().chain(arms) {
        let longest = written(samples, method, |sample| Some(sample.longest));
        if longest.is_none() {
            continue;
        }
        let (during, after) = match method {
            "none" => (None, None),
            _ => (
                written(samples, method, write_during),
                written(samples, method, write_after),
            ),
        };
        table.row(vec![
            label(method),
            text(during),
            of(during, fork_write),
            text(after),
            of(after, fork_write),
            text(longest),
            of(longest, one_fork),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_counts_by_its_median() {
        let run = |method: &str, longest: u64| {
            format!(
                "{{\"what\":\"writes\",\"method\":\"{method}\",\"mib\":512,\"ns\":1000,\"after_ns\":50,\
                 \"writes\":[[60,10],[70,20],[90,{longest}]]}}\n"
            )
        };
        let samples = Samples::parse(&(run(FORK, 40) + &run(FORK, 60) + &run("none", 30))).unwrap();
        let after = written(&samples, FORK, write_after).unwrap();
        assert_eq!((after.median, after.max), (20, 20));
        let table = table(&samples);
        assert_eq!(table.rows[1][0], "`fork()`");
        assert_eq!(table.rows[1][6], "1/20.0", "50 ns of 1000");
        assert_eq!(table.rows[0][3], NOTHING, "nothing was made copy-on-write");
    }
}
