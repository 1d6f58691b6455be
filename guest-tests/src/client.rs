//! A client of a database that knows in its own memory how many statements it sent, and how many were acknowledged.

use std::io::{BufRead as _, BufReader, Lines, Write as _, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

static SENT: AtomicU64 = AtomicU64::new(0);
static ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

/// A program that reads SQL and answers by lines, and the pipes to it.
pub struct Client {
    child: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// Starts the program.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start(program: &mut Command) -> Self {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        Self {
            input: child.stdin.take().expect("piped"),
            answers: BufReader::new(child.stdout.take().expect("piped")).lines(),
            child,
        }
    }

    /// Sends statements. `None`: the program ended.
    pub fn send(&mut self, statements: &str) -> Option<()> {
        writeln!(self.input, "{statements}").ok()
    }

    /// The next line of its answers. `None`: the program ended.
    pub fn answer(&mut self) -> Option<String> {
        self.answers.next()?.ok()
    }

    /// Commits one number after the other, counted before and after. Says where the two counters are, and answers each line of
    /// standard input with the count of those acknowledged. Ends when the program does, for which `commit` returns `None`.
    pub fn count(mut self, mut commit: impl FnMut(&mut Self, u64) -> Option<()>) {
        println!(
            "pid {} client {} sent {} acknowledged {}",
            std::process::id(),
            self.child.id(),
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
            if commit(&mut self, number).is_none() {
                break;
            }
            ACKNOWLEDGED.store(number, Ordering::SeqCst);
        }
        eprintln!("the program ended: {:?}", self.child.wait());
    }
}
