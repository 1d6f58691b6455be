//! The processes that are snapshotted: programs of this crate that say on their first line where their memory is.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::patience;

/// Names and numbers, in turn.
///
/// # Panics
///
/// When it is anything else.
#[must_use]
pub fn numbers(line: &str) -> HashMap<String, u64> {
    let words: Vec<_> = line.split_whitespace().collect();
    words
        .chunks_exact(2)
        .map(|pair| (pair[0].to_owned(), pair[1].parse().expect("a number")))
        .collect()
}

/// A running target; killed when it goes out of scope.
pub struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What its first line said: names and numbers.
    pub says: HashMap<String, u64>,
}

impl Target {
    /// Starts a program that lies beside the test or on the PATH, and waits for its first line.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn spawn(program: &str, arguments: &[&str]) -> Self {
        Self::spawn_with(program, arguments, &[])
    }

    /// Starts a program in the cgroup that has this directory, and waits for its first line.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn spawn_in(group: &str, program: &str) -> Self {
        Self::spawn(
            "sh",
            &["-c", &format!("echo $$ >{group}/cgroup.procs && exec {program}")],
        )
    }

    /// Starts a program with more in its environment, and waits for its first line.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn spawn_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the target starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut target = Self {
            child,
            input,
            output,
            says: HashMap::new(),
        };
        target.says = numbers(&target.hear());
        target
    }

    /// The next line that it says.
    ///
    /// # Panics
    ///
    /// When it is silent for good.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the target speaks");
        line
    }

    /// Tells it to go on, and returns what it answers.
    ///
    /// # Panics
    ///
    /// When it does not listen or answer.
    pub fn ask(&mut self) -> String {
        self.nudge();
        self.hear()
    }

    /// Tells it something, and returns what it answers.
    ///
    /// # Panics
    ///
    /// When it does not listen or answer.
    pub fn tell(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").expect("the target listens");
        self.hear()
    }

    /// Waits until it has exited. Its files may be open for longer: a snapshot that is being taken holds them.
    ///
    /// # Panics
    ///
    /// When it does not exit.
    pub fn assert_exits(&mut self) {
        let begin = Instant::now();
        while self.child.try_wait().expect("it is ours").is_none() {
            assert!(
                begin.elapsed() < patience(60),
                "the target {} goes on",
                self.pid()
            );
            sleep(Duration::from_millis(1));
        }
    }

    /// Tells it to go on.
    ///
    /// # Panics
    ///
    /// When it does not listen.
    pub fn nudge(&mut self) {
        self.input.write_all(b"\n").expect("the target listens");
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// A number from its first line.
    ///
    /// # Panics
    ///
    /// When it did not say that.
    #[must_use]
    pub fn at(&self, name: &str) -> u64 {
        *self
            .says
            .get(name)
            .unwrap_or_else(|| panic!("the target says where {name} is: {:?}", self.says))
    }

    /// The processor time that it has used, in clock ticks.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the target lives");
        let after = stat.rsplit(") ").next().expect("a state follows");
        after
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum()
    }

    /// Waits until it has used processor time: it runs.
    ///
    /// # Panics
    ///
    /// When it stays still for a long time.
    pub fn assert_runs(&self) {
        let before = self.ticks();
        let begin = Instant::now();
        while begin.elapsed() < patience(20) {
            if self.ticks() > before + 1 {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("the target {} stands still", self.pid());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.child.kill().expect("the target can be killed");
        self.child.wait().expect("and reaped");
    }
}
