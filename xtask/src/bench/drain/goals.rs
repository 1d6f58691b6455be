//! What we want, and whether the run has it. Misses stay in the table.

use serde_json::Value;

use super::tables::{median, wanted_copies, wanted_increment};
use crate::bench::disk::figures;
use crate::bench::goals::verdict;
use crate::bench::table::{NOTHING, Table};

/// What the controller may take of memory, in KiB.
const RESIDENT_KIB: u64 = 64 << 10;

/// A ratio that is not to be above a bound, or not below it.
enum Bound {
    Least(f64),
    Most(f64),
}

/// One goal.
struct Goal {
    what: String,
    bound: Bound,
    /// Both sides of the ratio, where both were measured.
    found: Option<(u64, u64)>,
}

impl Goal {
    fn row(self) -> Vec<String> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio of times or sizes")]
        let ratio = self.found.map(|(one, of)| one as f64 / of.max(1) as f64);
        let (wanted, reached) = match self.bound {
            Bound::Least(least) => (format!("≥ {least}"), ratio.map(|ratio| ratio >= least)),
            Bound::Most(most) => (format!("≤ {most}"), ratio.map(|ratio| ratio <= most)),
        };
        vec![
            self.what,
            wanted,
            ratio.map_or(NOTHING.to_owned(), |ratio| format!("{ratio:.4}")),
            verdict(reached).to_owned(),
        ]
    }
}

/// The goals and the verdicts.
pub fn table(samples: &[Value]) -> Table {
    let mut table = Table::new(
        "Goals",
        "Medians of this run; pages of 4 KiB.",
        &["", "goal", "here", ""],
    );
    let speed = |method: &str| {
        let wanted = [("what", "speed"), ("kind", "small"), ("method", method)];
        median(samples, &wanted, "ns")
    };
    let faster = |what: &str, least, ours: &str, theirs: &str| Goal {
        what: what.to_owned(),
        bound: Bound::Least(least),
        found: speed(theirs).zip(speed(ours)),
    };
    let by_read = "the module's descriptor by `read()`: speed / that of `dd` to `/dev/null`";
    table.row(faster(by_read, 0.8, "fd read", "dd to null").row());
    let with_sums = "image, with its sums, to `/dev/null`: speed / that of `dd`";
    table.row(faster(with_sums, 0.8, "image to null", "dd to null").row());
    let compressed = "image by zstd and age: speed / that of `zstd -T0 \\| age`";
    table.row(faster(compressed, 0.85, "image by zstd and age", "zstd and age").row());
    let host = |method| median(samples, &[("what", "host"), ("method", method)], "ns");
    for (what, least, ours, theirs) in [
        (with_sums, 0.8, "image to null", "dd to null"),
        (compressed, 0.85, "image by zstd and age", "zstd and age"),
    ] {
        let goal = Goal {
            what: format!("on the host's own processor: {what}"),
            bound: Bound::Least(least),
            found: host(theirs).zip(host(ours)),
        };
        table.row(goal.row());
    }
    table.row(resident(samples));
    let size = |method| median(samples, &[("what", "size"), ("method", method)], "compressed");
    let goal = Goal {
        what: "image of 512 MiB / gcore's core, both by `zstd -3`".to_owned(),
        bound: Bound::Most(1.0),
        found: size("image").zip(size("gcore")),
    };
    table.row(goal.row());
    for (hot, called) in [("regions", "every fourth region"), ("middle", "the middle")] {
        for snapshot in ["first", "later"] {
            let of = |way| median(samples, &wanted_copies(hot, snapshot, way), "pages_broken");
            let goal = Goal {
                what: format!(
                    "pages copied, {called} hot, {snapshot} snapshot: with drop-behind and order / without"
                ),
                bound: Bound::Most(0.6),
                found: of(["on", "likely"]).zip(of(["off", "address"])),
            };
            table.row(goal.row());
        }
    }
    for changed in ["evenly", "together"] {
        let of = |figure| median(samples, &wanted_increment("small", "none", changed), figure);
        let goal = Goal {
            what: format!("increment after 1 % of the pages changed, {changed} / full"),
            bound: Bound::Most(0.02),
            found: of("increment").zip(of("full")),
        };
        table.row(goal.row());
    }
    table
}

/// The most memory that the controller ever had, whatever it did and how large the process was.
fn resident(samples: &[Value]) -> Vec<String> {
    let most = figures(samples, &[("what", "memory")], "rss_kib")
        .into_iter()
        .max();
    vec![
        "resident memory of the controller, the most of all sizes".to_owned(),
        format!("≤ {} MiB", RESIDENT_KIB >> 10),
        most.map_or(NOTHING.to_owned(), |kib| format!("{} MiB", kib.div_ceil(1024))),
        verdict(most.map(|kib| kib <= RESIDENT_KIB)).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::bench::disk::parse;

    #[test]
    fn a_goal_is_reached_or_missed() {
        let samples = parse(
            "{\"what\":\"speed\",\"kind\":\"small\",\"method\":\"dd to null\",\"ns\":79}\n\
             {\"what\":\"speed\",\"kind\":\"small\",\"method\":\"image to null\",\"ns\":100}\n\
             {\"what\":\"memory\",\"rss_kib\":65536}\n\
             {\"what\":\"increment\",\"kind\":\"small\",\"compress\":\"none\",\"changed\":\"evenly\",\"full\":100,\"increment\":2}",
        )
        .unwrap();
        let rows = table(&samples).rows;
        assert_eq!(rows[1][1..], ["≥ 0.8", "0.7900", "**missed**"]);
        assert_eq!(rows[5][1..], ["≤ 64 MiB", "64 MiB", "reached"]);
        assert_eq!(rows[11][1..], ["≤ 0.02", "0.0200", "reached"]);
    }

    #[test]
    fn without_samples_nothing_is_claimed() {
        assert!(table(&[]).rows.iter().all(|row| row[3] == "not measured"));
    }
}
