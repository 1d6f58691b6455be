//! A Redis of a given size, and how long its fork takes it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const SOCKET: &str = "/tmp/redis.sock";

/// Of one value.
const VALUE: u64 = 16 << 10;

/// What it calls itself.
pub fn version() -> String {
    let said = guest_tests::sh("redis-server --version");
    let word = said.split_whitespace().find_map(|word| word.strip_prefix("v="));
    word.unwrap_or("unknown").to_owned()
}

/// The server; killed when it goes out of scope.
pub struct Redis {
    child: Child,
    connection: BufReader<UnixStream>,
    keys: u64,
}

impl Redis {
    /// Starts one, and fills it with that many MiB.
    pub fn start(mib: u64) -> Self {
        let child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--unixsocket",
                SOCKET,
                "--save",
                "",
                "--dir",
                "/tmp",
            ])
            .args(["--appendonly", "no", "--enable-debug-command", "local"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let connection = loop {
            if let Ok(connection) = UnixStream::connect(SOCKET) {
                break BufReader::new(connection);
            }
            sleep(Duration::from_millis(50));
        };
        let keys = mib * (1 << 20) / VALUE;
        let mut redis = Self {
            child,
            connection,
            keys,
        };
        redis.ask(&format!("DEBUG POPULATE {keys} key {VALUE}"));
        redis
    }

    /// Writes every value, then forks for a BGSAVE that does not last: `latest_fork_usec`.
    pub fn fork(&mut self) -> u64 {
        let script = format!(
            "local v = string.rep('v', {VALUE}) \
             for i = 0, {} do redis.call('setrange', 'key:' .. i, 0, v) end return 1",
            self.keys - 1
        );
        self.ask(&format!("EVAL \"{script}\" 0"));
        sleep(Duration::from_millis(200));
        self.ask("BGSAVE");
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            // What Redis itself sends to a child that it no longer wants.
            let child = child.parse().expect("a pid");
            // SAFETY: no memory is involved.
            unsafe { libc::kill(child, libc::SIGUSR1) };
        }
        while !self.ask("INFO persistence").contains("rdb_bgsave_in_progress:0") {
            sleep(Duration::from_millis(20));
        }
        let stats = self.ask("INFO stats");
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("latest_fork_usec:"));
        line.expect("it forked").trim().parse().expect("a number")
    }

    /// One command in the inline form, and its answer.
    fn ask(&mut self, command: &str) -> String {
        self.connection
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())
            .expect("Redis listens");
        let mut line = String::new();
        self.connection.read_line(&mut line).expect("Redis answers");
        assert!(!line.starts_with('-'), "{command}: {line}");
        let Some(length) = line.strip_prefix('$') else {
            return line;
        };
        let length: usize = length.trim().parse().expect("a length");
        let mut bulk = vec![0; length + 2];
        self.connection.read_exact(&mut bulk).expect("as long as it said");
        String::from_utf8_lossy(&bulk).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("and reaped");
    }
}
