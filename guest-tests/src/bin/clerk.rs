//! A client of a PostgreSQL server that writes number after number into the only row of the table `ledger`, and knows in its own
//! memory how many it sent and how many were acknowledged. Usage: `clerk`; `psql` finds the server by its environment. Says
//! where the two counters are, and answers each line of standard input with the count of those acknowledged. Ends when the server does.

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
    let mut tell = |statement: &str| {
        writeln!(server, "{statement}").ok()?;
        answers.next()?.ok()
    };
    tell("CREATE TABLE ledger (mark text); INSERT INTO ledger VALUES ('') RETURNING 'there';")
        .expect("psql answers");
    println!(
        "pid {} sent {} acknowledged {}",
        std::process::id(),
        &raw const SENT as usize,
        &raw const ACKNOWLEDGED as usize
    );
    std::thread::spawn(|| {
        for _ in stdin().lock().lines() {
            println!("{}", ACKNOWLEDGED.load(Ordering::SeqCst));
        }
    });
    for number in 1.. {
        SENT.store(number, Ordering::SeqCst);
        let mark = format!("mark:{number:010}");
        let Some(answer) = tell(&format!("UPDATE ledger SET mark = '{mark}' RETURNING mark;")) else {
            break;
        };
        assert_eq!(answer, mark);
        ACKNOWLEDGED.store(number, Ordering::SeqCst);
    }
    eprintln!("psql ended: {:?}", psql.wait());
}
