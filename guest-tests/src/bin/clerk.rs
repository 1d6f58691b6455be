//! A client of a PostgreSQL server that writes number after number into the only row of the table `ledger`, and knows in its own
//! memory how many it sent and how many were acknowledged. Usage: `clerk`; `psql` finds the server by its environment. Says
//! where the two counters are, and answers each line of standard input with the count of those acknowledged.

use std::io::{BufRead as _, BufReader, Write as _, stdin};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

static SENT: AtomicU64 = AtomicU64::new(0);
static ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

fn main() {
    let mut psql = Command::new("psql")
        .args(["--quiet", "--no-psqlrc", "--tuples-only", "--no-align"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql starts");
    let mut server = psql.stdin.take().expect("piped");
    let mut answers = BufReader::new(psql.stdout.take().expect("piped")).lines();
    let mut tell = move |statement: &str| {
        writeln!(server, "{statement}").expect("psql listens");
        answers.next().expect("psql answers").expect("in UTF-8")
    };
    tell("CREATE TABLE ledger (mark text); INSERT INTO ledger VALUES ('') RETURNING 'there';");
    std::thread::spawn(move || {
        loop {
            let number = SENT.fetch_add(1, Ordering::SeqCst) + 1;
            let mark = format!("mark:{number:010}");
            let answer = tell(&format!("UPDATE ledger SET mark = '{mark}' RETURNING mark;"));
            assert_eq!(answer, mark);
            ACKNOWLEDGED.store(number, Ordering::SeqCst);
        }
    });
    println!(
        "pid {} sent {} acknowledged {}",
        std::process::id(),
        &raw const SENT as usize,
        &raw const ACKNOWLEDGED as usize
    );
    for _ in stdin().lock().lines() {
        println!("{}", ACKNOWLEDGED.load(Ordering::SeqCst));
    }
    psql.wait().expect("psql ends with its input");
}
