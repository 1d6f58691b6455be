//! The processes that are snapshotted: programs of this crate that say on their first line where their memory is.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A running target; killed when it goes out of scope.
pub struct Target {
    child: Child,
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
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the target starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the target speaks");
        let words: Vec<_> = line.split_whitespace().collect();
        let says = words
            .chunks_exact(2)
            .map(|pair| (pair[0].to_owned(), pair[1].parse().expect("a number")))
            .collect();
        Self { child, says }
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
    /// When it stays still for twenty seconds.
    pub fn assert_runs(&self) {
        let before = self.ticks();
        for _ in 0..200 {
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
