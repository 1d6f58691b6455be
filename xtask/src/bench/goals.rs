//! What we want, and whether the run has it. Misses stay in the table.

use crate::bench::afterwards::{write_after, write_during, written};
use crate::bench::agreement::{compared, suffix};
use crate::bench::sample::{FORK, Samples};
use crate::bench::stats::{Spread, ratio};
use crate::bench::table::{NOTHING, Table};
use crate::bench::tables::{alone, freeze, label, spread};

/// How much longer a window may be at 1 GiB than at 256 MiB, and be called flat.
const FLAT: f64 = 1.5;

/// One goal.
struct Goal {
    what: String,
    /// The most that the ratio may be.
    most: f64,
    /// The two sides of the ratio, where both were measured.
    found: Option<(u64, u64)>,
}

impl Goal {
    fn row(&self) -> Vec<String> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio of times")]
        let reached = self.found.map(|(ours, of)| ours as f64 <= self.most * of as f64);
        vec![
            self.what.clone(),
            wanted(self.most),
            self.found
                .map_or(NOTHING.to_owned(), |(ours, of)| ratio(ours, of)),
            verdict(reached).to_owned(),
        ]
    }
}

/// How a goal did.
pub(super) const fn verdict(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "reached",
        Some(false) => "**missed**",
        None => "not measured",
    }
}

fn wanted(most: f64) -> String {
    if most < 1.0 {
        format!("≤ 1/{:.0}", 1.0 / most)
    } else {
        format!("≤ {most}")
    }
}

/// The goals and the verdicts.
pub fn table(samples: &Samples) -> Table {
    let mut table = Table::new(
        "Goals",
        "Medians of this run; 4 KiB pages.",
        &["", "goal", "here", ""],
    );
    for goal in goals(samples) {
        table.row(goal.row());
    }
    for rseq in [true, false] {
        table.row(agreement(samples, rseq));
    }
    table
}

fn goals(samples: &Samples) -> Vec<Goal> {
    let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
    let window = |method: &str, mib| median(spread(samples, method, alone(mib, false)));
    let goal = |what: &str, most, ours: Option<u64>, of: Option<u64>| Goal {
        what: what.to_owned(),
        most,
        found: ours.zip(of),
    };
    let mut goals = vec![goal(
        "window of `--arm lazy` / `fork()`, 512 MiB",
        1.0 / 20.0,
        window("lazy", 512),
        window(FORK, 512),
    )];
    for (mib, size) in [(512, "512 MiB"), (1024, "1 GiB")] {
        let what = format!("window of `--arm pud` / `fork()`, {size}");
        goals.push(goal(&what, 1.0 / 1000.0, window("pud", mib), window(FORK, mib)));
    }
    goals.push(goal(
        "window of `--arm pud`, 1 GiB / 256 MiB",
        FLAT,
        window("pud", 1024),
        window("pud", 256),
    ));
    goals.push(goal(
        "window of `--arm pud` / criu's frozen time, 256 MiB",
        1.0 / 10_000.0,
        window("pud", 256),
        window("criu", 256),
    ));
    for spinning in [8, 64] {
        let what = format!("stopping 64 threads, {spinning} of them busy: ipi / signal");
        let found = |method| median(freeze(samples, method, spinning));
        goals.push(goal(&what, 1.0 / 10.0, found("ipi"), found("signal")));
    }
    let fork_write = median(written(samples, FORK, write_after));
    let one_fork = median(written(samples, FORK, |sample| Some(sample.ns)));
    for arm in &samples.guest.arms {
        let name = label(arm);
        let during = median(written(samples, arm, write_during));
        let after = median(written(samples, arm, write_after));
        let longest = median(written(samples, arm, |sample| Some(sample.longest)));
        let first = format!("first write after {name} / after `fork()`");
        goals.push(goal(
            &format!("{first}, while finalising"),
            1.1,
            during,
            fork_write,
        ));
        goals.push(goal(&format!("{first}, then"), 1.1, after, fork_write));
        let what = format!("longest stall in the second after {name} / one `fork()`");
        goals.push(goal(&what, 1.0 / 20.0, longest, one_fork));
    }
    goals
}

/// The reported windows against the gaps that the targets saw.
fn agreement(samples: &Samples, rseq: bool) -> Vec<String> {
    let arms = samples.guest.arms.iter();
    let (all, agree) = arms.fold((0, 0), |(all, agree), arm| {
        let (here, agreeing, _) = compared(samples, arm, rseq);
        (all + here, agree + agreeing)
    });
    let reached = (all != 0).then_some(all == agree);
    vec![
        format!(
            "reported window and the target's own gap: within a fifth or 50 µs{}",
            suffix(rseq)
        ),
        "all".to_owned(),
        format!("{agree} of {all}"),
        verdict(reached).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let goal = |found| Goal {
            what: String::new(),
            most: 0.05,
            found,
        };
        assert_eq!(goal(Some((5, 100))).row()[1..], ["≤ 1/20", "1/20.0", "reached"]);
        assert_eq!(goal(Some((6, 100))).row()[3], "**missed**");
        assert_eq!(goal(None).row()[3], "not measured");
    }

    #[test]
    fn without_samples_nothing_is_claimed() {
        let table = table(&Samples::default());
        assert!(table.rows.iter().all(|row| row[3] == "not measured"));
    }
}
