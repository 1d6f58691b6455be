//! What may go wrong with the state is said, and nothing of it stays held.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_tests::device::{Device, How};
use guest_tests::held::Held;
use guest_tests::knob::Knob;
use guest_tests::target::Target;
use guest_tests::{patience, rounds};
use snap_common::abi;
use snap_common::phase::Phase;

use crate::{Cupboard, take};

const ROOM: i32 = 1;
const BUSY: i32 = 2;
const MEMORY: i32 = 4;

fn fails(target: &Target, reason: u32, error: i32) {
    let failed = Device::open()
        .take(&[target.pid()], 0)
        .err()
        .expect("it cannot work");
    assert_eq!(
        (failed.reason, failed.error.raw_os_error()),
        (reason, Some(error)),
        "{failed:?}"
    );
}

#[test]
fn without_room_it_starts_over_and_gives_up() {
    let target = Target::spawn("cupboard", &[]);
    {
        let _knob = Knob::set("test_state", ROOM);
        fails(&target, abi::REASON_STATE_ROOM, libc::EAGAIN);
    }
    take(&target);
}

#[test]
fn without_memory_it_fails() {
    let target = Target::spawn("cupboard", &[]);
    {
        let _knob = Knob::set("test_state", MEMORY);
        fails(&target, abi::REASON_NO_MEMORY, libc::ENOMEM);
    }
    for phase in 0..8 {
        let _knob = Knob::set("test_fail_phase", phase);
        if phase != 1 && phase != 5 && phase != 6 {
            fails(&target, abi::REASON_INJECTED, libc::EIO);
        }
    }
    take(&target);
}

#[test]
fn a_pipe_that_is_in_use_says_so() {
    let knob = Knob::set("test_state", BUSY);
    let cupboard = Cupboard::new();
    for name in ["pipe_reader", "pipe_writer", "fifo"] {
        let file = cupboard.file(name);
        assert_eq!((file.notes, file.pipe.length), (abi::NOTE_PIPE_BUSY, 0), "{name}");
    }
    drop(knob);
}

/// Reads until the other side is closed.
fn hears_the_end(mut reader: impl std::io::Read) -> Duration {
    let begin = Instant::now();
    reader.read_to_end(&mut Vec::new()).expect("it can be read");
    begin.elapsed()
}

#[test]
fn an_open_snapshot_holds_no_file() {
    for _ in 0..rounds(3) {
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sleep runs");
        let pid = i32::try_from(child.id()).expect("small");
        // Until then it has our memory.
        while std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| !exe.ends_with("sleep")) {
            sleep(Duration::from_millis(1));
        }
        let snapshot = Device::open()
            .take(&[pid], 0)
            .unwrap_or_else(|failed| panic!("{failed:?}"));
        let mut input = child.stdin.take().expect("piped");
        child.kill().expect("it can be killed");
        child.wait().expect("it is ours");
        let end = hears_the_end(child.stdout.take().expect("piped"));
        println!("its pipe was closed after {end:?}");
        assert!(end < patience(5));
        // Nobody reads any more.
        assert!(input.write_all(b"x").is_err());
        drop(snapshot);
    }
}

#[test]
fn what_a_target_closes_is_closed() {
    let mut target = Target::spawn("cupboard", &[]);
    let port = u16::try_from(target.at("tcp_port")).expect("a port");
    let snapshot = take(&target);
    let said = target.ask();
    assert!(said.starts_with("closed"), "{said}");
    // Neither the port nor any lock stays, with the snapshot open.
    assert_is_free(port);
    let begin = Instant::now();
    drop(TcpListener::bind(("127.0.0.1", 0)).expect("a port is free"));
    let holder = format!(" {} ", target.pid());
    while let locks = std::fs::read_to_string("/proc/locks").expect("it is there")
        && locks.lines().any(|lock| lock.contains(&holder))
    {
        assert!(begin.elapsed() < patience(5), "{locks}");
        sleep(Duration::from_millis(20));
    }
    println!("all was closed after {:?}", begin.elapsed());
    drop(snapshot);
}

/// The rehearsal of the stop has hold of all descriptors for a moment, too.
#[test]
fn what_a_target_closes_in_the_rehearsal_is_closed() {
    let mut target = Target::spawn("cupboard", &[]);
    let port = u16::try_from(target.at("tcp_port")).expect("a port");
    let mut held = Held::begin_in_rehearsal(target.pid(), How::default());
    assert!(target.ask().starts_with("closed"));
    // In the stop, what is closed may wait for the target's memory.
    held.go_on_to(Phase::Finalize);
    assert_is_free(port);
    drop(held.release());
}

/// Nobody listens there any more.
fn assert_is_free(port: u16) {
    let begin = Instant::now();
    let refused = || {
        // Where too many wait to be accepted, nobody answers.
        let connected = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1));
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    while !refused() {
        assert!(begin.elapsed() < patience(5), "it still listens");
        sleep(Duration::from_millis(20));
    }
}

/// Files open in the whole kernel.
fn open_files() -> i64 {
    let text = std::fs::read_to_string("/proc/sys/fs/file-nr").expect("it is there");
    text.split_whitespace()
        .next()
        .expect("a number")
        .parse()
        .expect("a number")
}

#[test]
fn no_reference_is_left() {
    let target = Target::spawn("cupboard", &[]);
    let before = open_files();
    for _ in 0..rounds(20) {
        take(&target);
    }
    drop(target);
    // What is counted per processor comes together late.
    sleep(Duration::from_millis(500));
    let after = open_files();
    assert!(after < before + 40, "{before} open files before, {after} after");
    let (one, mut other) = UnixStream::pair().expect("two sockets");
    drop(one);
    assert_eq!(other.read(&mut [0]).expect("it can be read"), 0);
}
