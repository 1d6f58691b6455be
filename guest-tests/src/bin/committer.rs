//! A client of a database that commits one number after the other to the table `commits`, and knows in its own memory how many it sent and
//! how many were acknowledged. Usage: `committer PROGRAM ARGS…`, a program that reads SQL and answers by lines: psql or sqlite3.
//! Says where the two counters are, and answers each line of standard input with the count of those acknowledged. Ends when the
//! program does.

use std::io::{BufRead as _, BufReader, Write as _, stdin};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

static SENT: AtomicU64 = AtomicU64::new(0);
static ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut client = Command::new(&arguments[0])
        .args(&arguments[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut database = client.stdin.take().expect("piped");
    let mut answers = BufReader::new(client.stdout.take().expect("piped")).lines();
    // The second statement is answered when the first is committed.
    let mut tell = |statement: &str, number: u64| {
        writeln!(database, "{statement}; SELECT 'number:{number}';").ok()?;
        let answer = format!("number:{number}");
        answers
            .by_ref()
            .map_while(Result::ok)
            .find(|line| *line == answer)
    };
    tell("CREATE TABLE commits (number integer PRIMARY KEY)", 0).expect("the database answers");
    println!(
        "pid {} client {} sent {} acknowledged {}",
        std::process::id(),
        client.id(),
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
        if tell(&format!("INSERT INTO commits VALUES ({number})"), number).is_none() {
            break;
        }
        ACKNOWLEDGED.store(number, Ordering::SeqCst);
    }
    eprintln!("the program ended: {:?}", client.wait());
}
