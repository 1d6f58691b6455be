//! Databases under load: a copy of the frozen origin opens, is sound, and holds exactly the commits that the client's own memory, at the
//! instant, says it must.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::disk::Disk;
use guest_tests::disk::base::Kind::LayerOnPartition;
use guest_tests::disk::fs::Kind;
use guest_tests::disk::place::Place;
use guest_tests::disk::snapshot::Snapshot;
use guest_tests::memory::Memory as _;
use guest_tests::target::Target;
use guest_tests::{few, rounds_of, sh};

/// Where copies of databases are opened.
const COPY: &str = "/tmp/disk/copy";

/// How many commits a database has, and the highest of their numbers.
const LOOK: &str = "SELECT count(*), coalesce(max(number), 0) FROM commits;";

/// A running `committer`.
struct Committer(Target);

impl Committer {
    fn acknowledged(&mut self) -> u64 {
        self.0.ask().trim().parse().expect("a number")
    }

    fn goes_on(&mut self, commits: u64) {
        let until = self.acknowledged() + commits;
        while self.acknowledged() < until {
            sleep(Duration::from_millis(10));
        }
    }

    /// The client in its middle, and itself.
    fn pids(&self) -> Vec<i32> {
        let client = i32::try_from(self.0.at("client")).expect("pids are small");
        vec![self.0.pid(), client]
    }

    /// What was found in a copy is what was committed at the instant.
    fn check(&self, snapshot: &Snapshot, found: u64) {
        let counter = |name| snapshot.memory().word(self.0.pid(), self.0.at(name));
        let (acknowledged, sent) = (counter("acknowledged"), counter("sent"));
        assert!(
            (acknowledged..=sent).contains(&found),
            "{found} commits are on the origin; {acknowledged} were acknowledged, {sent} sent"
        );
    }
}

/// How many commits there are, by the answer to [`LOOK`].
fn commits(answer: &str) -> u64 {
    let (count, highest) = answer.trim().split_once('|').expect("two numbers");
    assert_eq!(count, highest, "none is missing");
    count.parse().expect("a number")
}

/// Copies a folder of the origin.
fn copy(snapshot: &Snapshot, folder: &str) {
    let origin = snapshot.mount();
    sh(&format!("rm -rf {COPY}; cp -a {}/{folder} {COPY}", origin.dir));
    origin.unmount();
}

fn sqlite(kind: Kind, journal: &str) {
    let disk = Disk::usual();
    let place = Place::new(&disk, LayerOnPartition, kind);
    let folder = place.mounted().path("db");
    let file = format!("{folder}/ledger");
    sh(&format!(
        "mkdir {folder}; test \"$(sqlite3 {file} 'PRAGMA journal_mode={journal}')\" = {journal}"
    ));
    let full = "PRAGMA synchronous=FULL";
    let arguments = ["stdbuf", "-o0", "sqlite3", "-cmd", full, &file];
    let mut committer = Committer(Target::spawn("committer", &arguments));
    let look = |file: &str| commits(&sh(&format!("sqlite3 {file} '{LOOK}'")));
    for _ in 0..rounds_of(2, 30) {
        committer.goes_on(20);
        let snapshot = place.what(&committer.pids()).take();
        committer.goes_on(20);
        copy(&snapshot, "db");
        committer.check(&snapshot, look(&format!("{COPY}/ledger")));
        let sound = sh(&format!("sqlite3 {COPY}/ledger 'PRAGMA integrity_check'"));
        assert_eq!(sound, "ok\n");
        snapshot.commit();
    }
    let acknowledged = committer.acknowledged();
    drop(committer);
    assert!(look(&file) >= acknowledged);
    assert_eq!(sh(&format!("sqlite3 {file} 'PRAGMA integrity_check'")), "ok\n");
}

#[test]
fn a_database_of_sqlite_holds_what_was_acknowledged() {
    let cases = [(Kind::Xfs, "wal"), (Kind::Ext4, "delete"), (Kind::Ext4, "wal")];
    for (kind, journal) in few(&cases, 2) {
        sqlite(*kind, journal);
    }
}

/// A running PostgreSQL server.
struct Server {
    data: String,
    sockets: String,
}

impl Server {
    fn start(data: &str, sockets: &str) -> Self {
        sh(&format!(
            "install -d -o postgres {sockets}
             cd {sockets}
             runuser -u postgres -- /usr/lib/postgresql/*/bin/pg_ctl -D {data} -w -t 600 -l {sockets}/log \
                 -o '-k {sockets} -c listen_addresses= -c fsync=on -c autovacuum=off -c shared_buffers=16MB' start"
        ));
        Self {
            data: data.to_owned(),
            sockets: sockets.to_owned(),
        }
    }

    fn look(&self) -> u64 {
        commits(&sh(&format!(
            "psql -h {} -U postgres -qAt -c '{LOOK}'",
            self.sockets
        )))
    }

    /// Its first process and all of its children.
    fn pids(&self) -> Vec<i32> {
        let pids = sh(&format!(
            "first=$(head -n 1 {}/postmaster.pid); echo $first; pgrep -P $first",
            self.data
        ));
        pids.lines()
            .map(|line| line.parse().expect("a process id"))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let script = format!(
            "cd /; runuser -u postgres -- /usr/lib/postgresql/*/bin/pg_ctl -D {} -m immediate stop",
            self.data
        );
        // It fails where the server is gone, and then there is nothing to stop.
        let _ = Command::new("sh").args(["-c", &script]).output();
    }
}

fn postgres(kind: Kind) {
    let disk = Disk::usual();
    let place = Place::new(&disk, LayerOnPartition, kind);
    let data = place.mounted().path("db");
    sh(&format!(
        "install -d -o postgres {data}
         cd {data}
         runuser -u postgres -- /usr/lib/postgresql/*/bin/initdb --no-sync --wal-segsize=1 -A trust -D {data}"
    ));
    let server = Server::start(&data, "/run/postgres");
    let arguments = ["psql", "-h", "/run/postgres", "-U", "postgres", "-qAtX"];
    let mut committer = Committer(Target::spawn("committer", &arguments));
    for _ in 0..rounds_of(2, 20) {
        committer.goes_on(50);
        let pids = [committer.pids(), server.pids()].concat();
        let snapshot = place.what(&pids).take();
        committer.goes_on(50);
        copy(&snapshot, "db");
        sh(&format!("rm {COPY}/postmaster.pid"));
        let found = Server::start(COPY, "/run/copy").look();
        committer.check(&snapshot, found);
        snapshot.commit();
    }
    let acknowledged = committer.acknowledged();
    assert!(server.look() >= acknowledged);
}

#[test]
fn a_server_of_postgresql_holds_what_was_acknowledged() {
    for kind in few(&[Kind::Ext4, Kind::Xfs], 1) {
        postgres(*kind);
    }
}
