//! A process with many descriptors. Usage: `hoarder files|pipes|sockets COUNT`. Says that it has them, and sleeps.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(count)) = (arguments.next(), arguments.next()) else {
        panic!("usage: hoarder files|pipes|sockets COUNT");
    };
    let count: usize = count.parse().expect("a number");
    let limit = libc::rlimit {
        rlim_cur: count as u64 + 100,
        rlim_max: count as u64 + 100,
    };
    // SAFETY: the limit outlives the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0);
    let mut held: Vec<OwnedFd> = Vec::new();
    while held.len() < count {
        match kind.as_str() {
            "files" => held.push(File::open("/etc/passwd").expect("it is there").into()),
            "pipes" => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                held.extend([OwnedFd::from(reader), OwnedFd::from(writer)]);
            }
            _ => {
                let (one, other) = UnixStream::pair().expect("two sockets");
                held.extend([OwnedFd::from(one), OwnedFd::from(other)]);
            }
        }
    }
    println!("pid {} held {}", std::process::id(), held.len());
    loop {
        std::thread::park();
    }
}
