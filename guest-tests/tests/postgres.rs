//! The shared buffers of a real PostgreSQL, in snapshots of the server and its client: they hold what the client's own memory
//! says of that instant, though all of them go on before their pages are held.

use std::fs;
use std::ops::RangeInclusive;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::device::{How, Snapshot};
use guest_tests::held::Held;
use guest_tests::image::Image;
use guest_tests::knob::{Knob, NO_FAULTS, NO_MAPPING};
use guest_tests::target::Target;
use guest_tests::{rounds_of, sh};
use snap_common::abi;

const FOLDER: &str = "/run/postgres";

/// A server with one client, which writes all the time. First the one ends, then the other.
struct Server {
    clerk: Target,
    postmaster: Postmaster,
}

/// The server's first process, by its id; all of it is stopped when this goes out of scope.
struct Postmaster(i32);

impl Server {
    fn start() -> Self {
        sh(&format!(
            "install -d -o postgres {FOLDER}
             as_postgres() {{ runuser -u postgres -- \"$@\"; }}
             cd {FOLDER}
             as_postgres /usr/lib/postgresql/*/bin/initdb --no-sync -A trust -D {FOLDER}/data
             as_postgres /usr/lib/postgresql/*/bin/pg_ctl -D {FOLDER}/data -w -t 600 -l {FOLDER}/log -o '-k {FOLDER} -c listen_addresses= \
                -c fsync=off -c autovacuum=off -c shared_buffers=16MB' start"
        ));
        let pid = fs::read_to_string(format!("{FOLDER}/data/postmaster.pid")).expect("it runs");
        let pid = pid.lines().next().and_then(|line| line.parse().ok());
        let postmaster = Postmaster(pid.expect("the first line is its process id"));
        Self {
            clerk: Target::spawn_with("clerk", &[], &[("PGHOST", FOLDER), ("PGUSER", "postgres")]),
            postmaster,
        }
    }

    /// The client, the server, and its children.
    fn pids(&self) -> Vec<i32> {
        let children = sh(&format!("pgrep -P {}", self.postmaster.0));
        let children = children.lines().map(|line| line.parse().expect("a process id"));
        [self.clerk.pid(), self.postmaster.0]
            .into_iter()
            .chain(children)
            .collect()
    }

    /// How many writes were acknowledged until now, or a moment ago.
    fn acknowledged(&mut self) -> u64 {
        self.clerk.ask().trim().parse().expect("a number")
    }

    /// Waits until the client has written so many times more.
    fn goes_on(&mut self, writes: u64) {
        let until = self.acknowledged() + writes;
        while self.acknowledged() < until {
            sleep(Duration::from_millis(10));
        }
    }

    /// A snapshot whose pages are held only after the client went on; and between which numbers of acknowledged writes it was
    /// taken.
    fn snapshot(&mut self, how: How) -> (Snapshot, RangeInclusive<u64>) {
        self.goes_on(50);
        let before = self.acknowledged();
        let held = Held::begin_all(&self.pids(), how);
        let after = self.acknowledged();
        self.goes_on(200);
        (held.release(), before..=after)
    }

    /// How many writes were acknowledged and sent at the instant, and the last one in the server's shared memory.
    fn found(&self, snapshot: &Snapshot) -> [u64; 3] {
        let image = Image::open(&snapshot.file);
        let counter = |name| image.word(self.clerk.pid(), self.clerk.at(name));
        let last = last_mark(&image, self.postmaster.0);
        [
            counter("acknowledged"),
            last.expect("there are marks"),
            counter("sent"),
        ]
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        sh(&format!(
            "runuser -u postgres -- /usr/lib/postgresql/*/bin/pg_ctl -D {FOLDER}/data -m immediate stop; rm -r {FOLDER}"
        ));
    }
}

/// The highest mark in the shared mappings of a process.
fn last_mark(image: &Image<'_>, pid: i32) -> Option<u64> {
    let vmas = image.vmas(&image.process(pid));
    let shared = vmas
        .iter()
        .filter(|vma| vma.flags & abi::VMA_SHARED != 0 && vma.run_count != 0);
    let marks = shared.flat_map(|vma| {
        let pages = usize::try_from((vma.end - vma.start) / 4096).expect("not that many");
        let pages = image.pages(pid, vma.start, pages).into_iter();
        let words = pages.flat_map(|page| page.unwrap_or_else(|| vec![0; 512]));
        marks(&words.flat_map(u64::to_ne_bytes).collect::<Vec<_>>())
    });
    marks.max()
}

/// The numbers behind `mark:`.
fn marks(memory: &[u8]) -> Vec<u64> {
    let begins = memory.windows(15).filter(|window| window.starts_with(b"mark:"));
    let numbers = begins.filter_map(|window| std::str::from_utf8(&window[5..]).ok()?.parse().ok());
    numbers.collect()
}

#[test]
fn its_shared_buffers_are_of_the_instant() {
    let mut server = Server::start();
    for arm in [abi::ARM_LAZY, abi::ARM_PUD, abi::ARM_EAGER] {
        for round in 0..rounds_of(1, 30) {
            let how = How {
                arm,
                ..How::default()
            };
            let (snapshot, instant) = server.snapshot(how);
            let [acknowledged, last, sent] = server.found(&snapshot);
            let right = acknowledged <= last && last <= sent && instant.contains(&acknowledged);
            assert!(
                right,
                "{how:?}, round {round}, {instant:?}: {acknowledged} {last} {sent}"
            );
            let counts = snapshot.take.counts;
            assert!(counts.pages_shared > 1000, "{counts:?}");
        }
    }
}

#[test]
fn without_the_hook_of_page_faults_they_are_not() {
    let mut server = Server::start();
    let how = How {
        arm: abi::ARM_LAZY,
        ..How::default()
    };
    let _knobs = [
        Knob::set("test_no_hook", NO_FAULTS | NO_MAPPING),
        Knob::set("test_no_look", 1),
    ];
    let (snapshot, instant) = server.snapshot(how);
    let [_, last, _] = server.found(&snapshot);
    // One more may have been sent.
    assert!(last > instant.end() + 1, "{last}, taken at {instant:?}");
}
