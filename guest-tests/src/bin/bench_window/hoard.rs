//! A running `hoard`, from the driver's side.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use guest_tests::board::Board;
use guest_tests::target::numbers;
use guest_tests::ticks::{Moment, Scale};

use crate::take::HOLD;

/// Where the boards lie: a ramfs, see [`Board`].
const BOARDS: &str = "/run/boards";

/// Something that took time, on `CLOCK_MONOTONIC`.
#[derive(Clone, Copy)]
pub struct Span {
    pub begin: u64,
    pub length: u64,
}

/// The process; killed when it goes out of scope.
pub struct Hoard {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    path: PathBuf,
    board: Board,
    wanted_huge_kib: u64,
}

impl Hoard {
    /// Starts one, and waits until its memory is there; `kind` is `small`, `huge` or `shared`. With `rseq`, as glibc does it
    /// unless told otherwise, the kernel writes to the memory of each thread that it sends back to user mode.
    pub fn start(mib: u64, kind: &str, threads: u64, spinning: u64, rseq: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let path = PathBuf::from(format!("{BOARDS}/{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        if !path.parent().is_some_and(std::path::Path::is_dir) {
            guest_tests::sh(&format!("mkdir {BOARDS} && mount -t ramfs boards {BOARDS}"));
        }
        let board = Board::create(&path);
        let mut child = Command::new("hoard")
            .env("GLIBC_TUNABLES", format!("glibc.pthread.rseq={}", u8::from(rseq)))
            .arg(mib.to_string())
            .arg(kind)
            .args([threads.to_string(), spinning.to_string()])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not the console: a terminal is more than criu wants to see.
            .stderr(fs::File::create("/tmp/hoard.log").expect("there is room"))
            .spawn()
            .expect("the hoard starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut hoard = Self {
            child,
            input,
            output,
            path,
            board,
            wanted_huge_kib: if kind == "huge" { mib * 1024 } else { 0 },
        };
        hoard.hear();
        hoard
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes every page; huge ones that are huge no more are replaced.
    pub fn renew(&mut self) {
        self.ask("renew");
        if self.huge_kib() < self.wanted_huge_kib {
            self.ask("afresh");
        }
        // Whatever the last sample left to do in the kernel is done now.
        sleep(Duration::from_millis(20));
    }

    /// How much of its memory is in huge pages.
    pub fn huge_kib(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).expect("it lives");
        let line = rollup.lines().find(|line| line.starts_with("AnonHugePages:"));
        let word = line.and_then(|line| line.split_whitespace().nth(1));
        word.and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// How long a fork took it.
    pub fn fork(&mut self) -> u64 {
        let ns = self.ask("fork")["fork_ns"];
        self.ask("reap");
        ns
    }

    /// How long a fork took it, when that was over, and its writes afterwards, with the child still there.
    pub fn fork_and_write(&mut self) -> (u64, u64, Vec<Span>) {
        let (said, (), writes) = self.during("forkwrite", || sleep(HOLD));
        self.ask("reap");
        (said["fork_ns"], scale(&said).time(said["after_ticks"]), writes)
    }

    /// Does something while it spins, and returns the gaps that it saw.
    pub fn spinning<T>(&mut self, act: impl FnOnce() -> T) -> (T, Vec<Span>) {
        let (_, done, gaps) = self.during("spin", act);
        (done, gaps)
    }

    /// Does something while it writes, and returns its writes.
    pub fn writing<T>(&mut self, act: impl FnOnce() -> T) -> (T, Vec<Span>) {
        let (_, done, writes) = self.during("write", act);
        (done, writes)
    }

    fn during<T>(&mut self, command: &str, act: impl FnOnce() -> T) -> (HashMap<String, u64>, T, Vec<Span>) {
        self.board.touch();
        self.tell(command);
        while !self.board.started() {
            sleep(Duration::from_millis(1));
        }
        let done = act();
        self.board.stop();
        let said = numbers(&self.hear());
        let scale = scale(&said);
        let notes = self.board.notes();
        let spans = notes.into_iter().map(|(begin, length)| Span {
            begin: scale.time(begin),
            length: scale.length(length),
        });
        (said, done, spans.collect())
    }

    fn ask(&mut self, command: &str) -> HashMap<String, u64> {
        self.tell(command);
        numbers(&self.hear())
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the hoard listens");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the hoard speaks");
        assert!(
            !line.is_empty(),
            "the hoard ended: {}",
            fs::read_to_string("/tmp/hoard.log").unwrap_or_default()
        );
        line
    }
}

fn scale(said: &HashMap<String, u64>) -> Scale {
    let moment = |ticks: &str, ns: &str| Moment {
        ticks: said[ticks],
        ns: said[ns],
    };
    Scale::new(moment("from_ticks", "from_ns"), moment("to_ticks", "to_ns"))
}

impl Drop for Hoard {
    fn drop(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("and reaped");
        fs::remove_file(&self.path).expect("the board is there");
    }
}
