//! The samples that the guest left, and what follows from each by itself.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::json::{Span, number, phase, spans, stood_still};

/// What the guest was.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    /// The kernel's release.
    pub kernel: String,
    /// The ways of arming that the controller knew.
    pub arms: Vec<String>,
    /// The ways of freezing.
    pub freezes: Vec<String>,
    /// The version of Redis, where it was measured.
    pub redis: Option<String>,
    /// The version of criu, where it was measured.
    pub criu: Option<String>,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Memory of all processes together.
    pub mib: u64,
    /// Whether it was in huge pages.
    pub huge: bool,
    /// Threads of each.
    pub threads: u64,
    /// How many.
    pub processes: u64,
}

/// A gap that a target saw around a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How long it was.
    pub ns: u64,
    /// How long the target was kept after the window.
    pub after: u64,
}

/// A snapshot that a target watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// How it was armed.
    pub method: String,
    /// Whether the target's threads had an rseq area.
    pub rseq: bool,
    /// The window, as it was reported.
    pub ns: u64,
    /// The gap that the target itself saw then.
    pub gap: Option<Gap>,
}

/// How long something kept a target.
#[derive(Clone, Debug)]
pub struct Window {
    /// Of what.
    pub case: Case,
    /// By what.
    pub method: String,
    /// As it was reported.
    pub ns: u64,
    /// How the memory was armed in the end, where that is not what was asked for.
    pub instead: Option<String>,
    /// How much of the memory was in huge pages.
    pub huge_kib: u64,
}

/// How long a process with shared memory stood still.
#[derive(Clone, Debug)]
pub struct Shared {
    /// How much it was.
    pub mib: u64,
    /// How it was armed.
    pub method: String,
    /// The window.
    pub ns: u64,
}

/// How long it took to bring 64 threads to a stop.
#[derive(Clone, Debug)]
pub struct Freeze {
    /// How many of them were busy.
    pub spinning: u64,
    /// In which way.
    pub method: String,
    /// The phase `freeze_tasks`.
    pub ns: u64,
}

/// What a writer paid.
#[derive(Clone, Debug)]
pub struct Writes {
    /// Its memory.
    pub mib: u64,
    /// After what.
    pub method: String,
    /// How long that itself took.
    pub ns: u64,
    /// Each write while the snapshot was being finalised.
    pub during: Vec<u64>,
    /// Each write afterwards.
    pub after: Vec<u64>,
    /// The longest that a write took, from the end of the window on.
    pub longest: u64,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// What the guest was.
    pub guest: Guest,
    /// Windows, forks, dumps; the targets sleep.
    pub windows: Vec<Window>,
    /// Windows of targets that watch.
    pub watched: Vec<Watched>,
    /// The longest gap that a target saw when nothing happened to it.
    pub baselines: Vec<u64>,
    /// Windows of shared memory.
    pub shared: Vec<Shared>,
    /// Freezes.
    pub freezes: Vec<Freeze>,
    /// Writes.
    pub writes: Vec<Writes>,
}

impl Samples {
    /// Reads one JSON object a line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut samples = Self::default();
        for (number, line) in text.lines().enumerate() {
            samples
                .add(line)
                .with_context(|| format!("line {}", number + 1))?;
        }
        Ok(samples)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let line: Value = serde_json::from_str(line)?;
        let method = line["method"].as_str().unwrap_or_default().to_owned();
        match line["what"].as_str() {
            Some("guest") => self.guest = Guest::new(&line),
            Some("window") => self.windows.push(window(&line, method)?),
            Some("watched") => self.watched.push(watched(&line, method)?),
            Some("baseline") => self.baselines.push(number(&line, "ns")?),
            Some("shared") => self.shared.push(Shared {
                mib: number(&line, "mib")?,
                method,
                ns: number(&line["report"], "window_ns")?,
            }),
            Some("freeze") => self.freezes.push(Freeze {
                spinning: number(&line, "spinning")?,
                method,
                ns: phase(&line["report"], "freeze_tasks")?.length,
            }),
            Some("writes") => self.writes.push(writes(&line, method)?),
            other => anyhow::bail!("{other:?} is no kind of sample"),
        }
        Ok(())
    }

    /// How often each thing was measured.
    pub fn rounds(&self) -> usize {
        let first = self.windows.first();
        first.map_or(0, |first| self.of(FORK, |case| *case == first.case).len())
    }

    /// The samples of a method, of those cases.
    pub fn of(&self, method: &str, wanted: impl Fn(&Case) -> bool) -> Vec<u64> {
        let samples = self.windows.iter();
        samples
            .filter(|window| window.method == method && wanted(&window.case))
            .map(|window| window.ns)
            .collect()
    }
}

/// The method that everything is compared with.
pub const FORK: &str = "fork";

impl Guest {
    fn new(line: &Value) -> Self {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let list = |name: &str| {
            let values = line[name].as_array().into_iter().flatten();
            values.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            kernel: text("kernel").unwrap_or_default(),
            arms: list("arms"),
            freezes: list("freezes"),
            redis: text("redis"),
            criu: text("criu"),
        }
    }
}

fn window(line: &Value, method: String) -> Result<Window> {
    let report = &line["report"];
    let mode = report["mode"].as_str();
    Ok(Window {
        case: Case {
            mib: number(line, "mib")?,
            huge: line["huge"] == true,
            threads: number(line, "threads")?,
            processes: number(line, "processes")?,
        },
        instead: mode.filter(|mode| *mode != method).map(str::to_owned),
        ns: number(line, "ns").or_else(|_| number(report, "window_ns"))?,
        huge_kib: number(line, "huge_kib").unwrap_or(0),
        method,
    })
}

fn watched(line: &Value, method: String) -> Result<Watched> {
    let report = &line["report"];
    Ok(Watched {
        method,
        rseq: line["rseq"] == true,
        ns: number(report, "window_ns")?,
        gap: gap(&spans(&line["gaps"]), stood_still(report)?),
    })
}

/// The longest gap that overlaps the window.
fn gap(gaps: &[Span], window: Span) -> Option<Gap> {
    let overlapping = gaps
        .iter()
        .filter(|gap| gap.begin < window.end() && gap.end() > window.begin);
    let gap = overlapping.max_by_key(|gap| gap.length)?;
    Some(Gap {
        ns: gap.length,
        after: gap.end().saturating_sub(window.end()),
    })
}

fn writes(line: &Value, method: String) -> Result<Writes> {
    let report = &line["report"];
    let begin = number(line, "after_ns").unwrap_or(0);
    let held = match report.is_object() {
        true => phase(report, "finalize")?.end(),
        false => begin,
    };
    let (mut during, mut after, mut longest) = (Vec::new(), Vec::new(), 0);
    for write in spans(&line["writes"]) {
        longest = longest.max(write.end() - write.begin.max(begin));
        if write.begin < begin {
            continue; // it stood still itself
        }
        if write.begin < held {
            during.push(write.length);
        } else {
            after.push(write.length);
        }
    }
    Ok(Writes {
        mib: number(line, "mib")?,
        ns: number(line, "ns")
            .or_else(|_| number(report, "window_ns"))
            .unwrap_or(0),
        method,
        during,
        after,
        longest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"mode":"eager","window_ns":300,"phases":[
        {"name":"freeze_tasks","start_ns":1000,"duration_ns":100},{"name":"arm","start_ns":1100,"duration_ns":150},
        {"name":"thaw_tasks","start_ns":1250,"duration_ns":50},{"name":"finalize","start_ns":1300,"duration_ns":700}]}"#;

    fn sample(rest: &str) -> Samples {
        Samples::parse(&format!("{{{rest},\"report\":{REPORT}}}").replace('\n', "")).unwrap()
    }

    #[test]
    fn the_gap_is_the_one_in_which_the_window_fell() {
        let gaps = "[[0,900],[1010,310],[1330,20],[2500,9000]]";
        let samples = sample(&format!(
            r#""what":"watched","method":"lazy","rseq":true,"gaps":{gaps}"#
        ));
        let watched = &samples.watched[0];
        assert_eq!((watched.ns, watched.rseq), (300, true));
        assert_eq!(watched.gap, Some(Gap { ns: 310, after: 20 }));
    }

    #[test]
    fn what_was_armed_otherwise_is_known() {
        let case = r#""mib":64,"huge":false,"threads":1,"processes":1"#;
        let samples = sample(&format!(r#""what":"window","method":"lazy",{case}"#));
        assert_eq!(samples.windows[0].instead.as_deref(), Some("eager"));
    }

    #[test]
    fn writes_are_told_apart_by_when_they_began() {
        let writes = "[[900,500],[1400,10],[1500,20],[2000,30]]";
        let samples = sample(&format!(
            r#""what":"writes","method":"lazy","mib":512,"after_ns":1300,"writes":{writes}"#
        ));
        let found = &samples.writes[0];
        assert_eq!(
            (found.during.as_slice(), found.after.as_slice()),
            (&[10, 20][..], &[30][..])
        );
        assert_eq!(found.longest, 100, "what the window itself took is not counted");
    }

    #[test]
    fn a_fork_has_no_report() {
        let line =
            r#"{"what":"window","method":"fork","ns":7,"mib":64,"huge":true,"threads":8,"processes":2}"#;
        let samples = Samples::parse(line).unwrap();
        assert_eq!(samples.of(FORK, |case| case.huge && case.threads == 8), [7]);
        assert!(Samples::parse("{}").is_err());
    }

    #[test]
    fn shared_memory_is_kept_apart() {
        let samples = sample(r#""what":"shared","method":"lazy","mib":64"#);
        assert!(samples.windows.is_empty());
        assert_eq!((samples.shared[0].ns, samples.shared[0].mib), (300, 64));
    }

    #[test]
    fn a_freeze_is_its_phase() {
        let samples = sample(r#""what":"freeze","method":"ipi","threads":64,"spinning":8"#);
        assert_eq!((samples.freezes[0].ns, samples.freezes[0].spinning), (100, 8));
    }
}
