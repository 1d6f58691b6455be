//! The guest's half of `cargo xtask bench window`: measures, and writes one JSON object a line to `/out/samples.jsonl`.
//! The host makes the tables. Usage: `bench_window ROUNDS real|instructions [CRIU_TAR]`.
//!
//! Every round takes each method once, in another order each time, on the same processes, and before each sample all
//! their pages are written: what a snapshot or a fork left write-protected would make the next one look too good.

use std::time::Duration;

use serde_json::{Value, json};

mod hoard;
mod out;
mod redis;
mod take;

use guest_tests::criu::Criu;
use hoard::Hoard;
use out::Out;
use redis::Redis;
use take::Freezeframe;

/// How long before and after a snapshot the target measures itself.
const MARGIN: Duration = Duration::from_millis(20);

/// What is measured on one set of processes.
#[derive(Clone, Copy)]
struct Case {
    /// Of all processes together.
    mib: u64,
    huge: bool,
    /// Of each process.
    threads: u64,
    processes: u64,
}

impl Case {
    const fn size(mib: u64, huge: bool) -> Self {
        Self {
            mib,
            huge,
            threads: 1,
            processes: 1,
        }
    }

    /// Whether a target that spins watches, too: of every kind one.
    const fn watched(self) -> bool {
        match (self.mib, self.huge) {
            (256, _) => self.threads != 8,
            (1024, huge) => !huge,
            _ => false,
        }
    }

    fn json(self) -> Value {
        json!({
            "mib": self.mib, "huge": self.huge, "threads": self.threads, "processes": self.processes,
        })
    }

    fn hoards(self, rseq: bool) -> Vec<Hoard> {
        let kind = if self.huge { "huge" } else { "small" };
        let one = |_| Hoard::start(self.mib / self.processes, kind, self.threads, 0, rseq);
        (0..self.processes).map(one).collect()
    }
}

/// Which clock the machine has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Time as it passes, two processors.
    Real,
    /// Instructions, one processor: a target that spins would only wait for its turn.
    Instructions,
}

struct Bench {
    rounds: usize,
    clock: Clock,
    freezeframe: Freezeframe,
    criu: Option<Criu>,
    out: Out,
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let clock = match arguments[2].as_str() {
        "instructions" => Clock::Instructions,
        _ => Clock::Real,
    };
    let mut bench = Bench {
        rounds: arguments[1].parse().expect("ROUNDS"),
        clock,
        freezeframe: Freezeframe::new(),
        criu: arguments.get(3).map(|tar| Criu::unpack(tar)),
        out: Out::create("/out/samples.jsonl"),
    };
    bench.out.line(&json!({
        "what": "guest",
        "kernel": guest_tests::sh("uname -r").trim(),
        "arms": bench.freezeframe.arms,
        "freezes": bench.freezeframe.freezes,
        "redis": redis::version(),
        "criu": bench.criu.as_ref().map(Criu::version),
    }));
    for case in cases() {
        bench.windows(case);
        if bench.clock == Clock::Real && case.watched() {
            bench.watched(case);
        }
    }
    for mib in [64, 256] {
        bench.shared(mib);
    }
    for spinning in [8, 64] {
        bench.freezes(spinning);
    }
    bench.writes(512);
}

/// The processes whose windows are measured.
fn cases() -> impl Iterator<Item = Case> {
    const SIZES: [u64; 4] = [64, 256, 512, 1024];
    let sizes = [false, true]
        .into_iter()
        .flat_map(|huge| SIZES.map(|mib| Case::size(mib, huge)));
    let parts = [(8, 1), (64, 1), (1, 16)].map(|(threads, processes)| Case {
        threads,
        processes,
        ..Case::size(256, false)
    });
    sizes.chain(parts)
}

impl Bench {
    /// Forks and snapshots in turn.
    fn windows(&mut self, case: Case) {
        let mut hoards = case.hoards(true);
        let plain = !case.huge && case.threads == 1 && case.processes == 1;
        let mut redis = plain.then(|| Redis::start(case.mib));
        let mut methods = vec!["fork".to_owned()];
        methods.extend(self.freezeframe.arms.iter().cloned());
        if redis.is_some() {
            methods.push("redis".to_owned());
        }
        if plain && case.mib == 256 && self.criu.is_some() {
            methods.push("criu".to_owned());
        }
        for round in 0..self.rounds {
            methods.rotate_left(1);
            for method in &methods {
                if method == "redis" {
                    let usec = redis.as_mut().expect("it is among the methods").fork();
                    let ns = usec * 1000;
                    self.out
                        .sample("window", method, round, &case.json(), &json!({ "ns": ns }));
                    continue;
                }
                hoards.iter_mut().for_each(Hoard::renew);
                let huge_kib: u64 = hoards.iter().map(Hoard::huge_kib).sum();
                let mut found = match method.as_str() {
                    "fork" => json!({ "ns": hoards.iter_mut().map(Hoard::fork).sum::<u64>() }),
                    "criu" => json!({ "ns": self.criu.as_ref().expect("as well").dump(hoards[0].pid()) }),
                    arm => {
                        let pids: Vec<_> = hoards.iter().map(Hoard::pid).collect();
                        json!({ "report": self.freezeframe.take(&pids, &["--arm", arm]) })
                    }
                };
                found["huge_kib"] = huge_kib.into();
                self.out.sample("window", method, round, &case.json(), &found);
            }
        }
    }

    /// Snapshots of targets that watch: of some with rseq, and of some without, in turn.
    fn watched(&mut self, case: Case) {
        let mut targets = [true, false].map(|rseq| (rseq, case.hoards(rseq)));
        for round in 0..self.rounds {
            for (rseq, hoards) in &mut targets {
                self.watch(hoards, *rseq, case, round);
            }
        }
    }

    /// Snapshots while the first target spins and watches; and how long it is kept by nothing at all.
    fn watch(&mut self, hoards: &mut [Hoard], rseq: bool, case: Case, round: usize) {
        for arm in self.freezeframe.arms.clone() {
            hoards.iter_mut().for_each(Hoard::renew);
            let pids: Vec<_> = hoards.iter().map(Hoard::pid).collect();
            let (report, gaps) = hoards[0].spinning(|| {
                std::thread::sleep(MARGIN);
                let report = self.freezeframe.take(&pids, &["--arm", &arm]);
                std::thread::sleep(MARGIN);
                report
            });
            let gaps: Vec<_> = gaps.iter().map(|gap| (gap.begin, gap.length)).collect();
            let found = json!({ "report": report, "gaps": gaps, "rseq": rseq });
            self.out.sample("watched", &arm, round, &case.json(), &found);
        }
        let gaps = hoards[0].spinning(|| std::thread::sleep(MARGIN * 10)).1;
        let longest = gaps.iter().map(|gap| gap.length).max();
        let found = json!({ "ns": longest.unwrap_or(0) });
        self.out.sample("baseline", "none", round, &case.json(), &found);
    }

    /// Snapshots of a process whose memory is shared: what fork() does not copy.
    fn shared(&mut self, mib: u64) {
        let mut hoard = Hoard::start(mib, "shared", 1, 0, true);
        let mut methods = self.freezeframe.arms.clone();
        for round in 0..self.rounds {
            methods.rotate_left(1);
            for method in &methods {
                hoard.renew();
                let report = self.freezeframe.take(&[hoard.pid()], &["--arm", method]);
                let found = json!({ "report": report });
                self.out
                    .sample("shared", method, round, &json!({ "mib": mib }), &found);
            }
        }
    }

    /// Freezes 64 threads in each way.
    fn freezes(&mut self, spinning: u64) {
        const THREADS: u64 = 64;
        let mut hoard = Hoard::start(16, "small", THREADS, spinning.min(THREADS - 1), true);
        let mut methods = self.freezeframe.freezes.clone();
        let case = json!({ "threads": THREADS, "spinning": spinning });
        for round in 0..self.rounds {
            methods.rotate_left(1);
            for method in &methods {
                hoard.renew();
                let pid = hoard.pid();
                let take = || self.freezeframe.take(&[pid], &["--freeze", method]);
                // The main thread is the last one to spin.
                let report = if spinning == THREADS {
                    hoard.spinning(take).0
                } else {
                    take()
                };
                self.out
                    .sample("freeze", method, round, &case, &json!({ "report": report }));
            }
        }
    }

    /// What a writer pays after a fork and after each kind of snapshot, and without either.
    fn writes(&mut self, mib: u64) {
        let mut hoard = Hoard::start(mib, "small", 1, 0, true);
        let mut methods = vec!["none".to_owned(), "fork".to_owned()];
        methods.extend(self.freezeframe.arms.iter().cloned());
        for round in 0..self.rounds.min(5) {
            methods.rotate_left(1);
            for method in &methods {
                hoard.renew();
                let found = match method.as_str() {
                    "none" => {
                        let ((), writes) = hoard.writing(|| std::thread::sleep(take::HOLD));
                        let longest = writes.iter().max_by_key(|write| write.length);
                        json!({ "writes": longest.map(|write| [(write.begin, write.length)]) })
                    }
                    "fork" => {
                        let (ns, after, writes) = hoard.fork_and_write();
                        json!({ "ns": ns, "after_ns": after, "writes": out::from(&writes, after) })
                    }
                    arm => {
                        let (pid, freezeframe) = (hoard.pid(), &self.freezeframe);
                        let (held, writes) = hoard.writing(|| {
                            std::thread::sleep(MARGIN);
                            freezeframe.hold(pid, arm)
                        });
                        let report = held.finish();
                        let after = take::window_end(&report);
                        json!({ "report": report, "after_ns": after, "writes": out::from(&writes, after) })
                    }
                };
                self.out
                    .sample("writes", method, round, &json!({ "mib": mib }), &found);
            }
        }
    }
}
