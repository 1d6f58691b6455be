//! Threads that never stop making and giving back what the kernel keeps for a process. One of them counts: in the positions of two files,
//! in an eventfd, and in bytes of a pipe, one after the other, so that at any instant each has as much as the one before it, or one less.
//! With `alone` nobody else runs. Says on one line which descriptors these are.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;
use std::thread::spawn;

/// Bytes that the pipe holds before it is emptied: less than a page of it.
const PIPE_BYTES: u64 = 3000;

/// Descriptors between those that are counted in.
const BETWEEN: i32 = 100;

fn main() {
    // Nobody takes it: it waits, and goes, and comes.
    // SAFETY: ignores a signal.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    let others: [fn(); 5] = [descriptors, sockets, timers, threads, signals];
    let alone = std::env::args().nth(1).is_some_and(|how| how == "alone");
    for act in others.into_iter().filter(|_| !alone) {
        spawn(move || {
            loop {
                act();
            }
        });
    }
    count();
}

/// The same file under a number that is far from the others: who notes the descriptors one by one needs a while from one to the next.
fn far(file: &impl AsRawFd, number: i32) -> File {
    for other in number - BETWEEN..=number {
        // SAFETY: nobody else has numbers as high.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), other) }, other);
    }
    // SAFETY: it is ours alone.
    File::from(unsafe { OwnedFd::from_raw_fd(number) })
}

fn count() -> ! {
    let open = || File::open("/etc/passwd").expect("it is there");
    let (one, two) = (open(), far(&open(), 500));
    // SAFETY: makes a descriptor.
    let counter = unsafe { libc::eventfd(0, 0) };
    assert!(counter >= 0);
    // SAFETY: it is ours alone.
    let mut counter = far(&unsafe { OwnedFd::from_raw_fd(counter) }, 700);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut reader = far(&reader, 900);
    println!(
        "one {} two {} counter {} pipe {}",
        one.as_raw_fd(),
        two.as_raw_fd(),
        counter.as_raw_fd(),
        reader.as_raw_fd()
    );
    let mut count = 0u64;
    loop {
        count += 1;
        for file in [&one, &two] {
            let to = i64::try_from(count).expect("small");
            // SAFETY: moves the position of a descriptor of ours.
            unsafe { libc::lseek(file.as_raw_fd(), to, libc::SEEK_SET) };
        }
        counter.write_all(&1u64.to_ne_bytes()).expect("it counts");
        let digit = u8::try_from(count % 251).expect("small");
        writer.write_all(&[digit]).expect("there is room");
        if count.is_multiple_of(PIPE_BYTES) {
            reader
                .read_exact(&mut vec![0; usize::try_from(PIPE_BYTES).expect("small")])
                .expect("it is there");
        }
    }
}

fn descriptors() {
    let files: Vec<_> = (0..50)
        .map(|_| File::open("/etc/passwd").expect("it is there"))
        .collect();
    let pipes: Vec<_> = (0..20).map(|_| std::io::pipe().expect("a pipe")).collect();
    for (_, writer) in &pipes {
        let mut writer = writer;
        writer.write_all(&[1; 5000]).expect("there is room");
    }
    drop(files);
    drop(pipes);
}

fn sockets() {
    let pairs: Vec<_> = (0..20)
        .map(|_| UnixStream::pair().expect("two sockets"))
        .collect();
    for (one, _) in &pairs {
        let mut one = one;
        one.write_all(b"unread").expect("there is room");
    }
    let _datagrams: Vec<_> = (0..10)
        .map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port is free"))
        .collect();
}

fn timers() {
    let mut ids = Vec::new();
    for _ in 0..20 {
        let mut id = 0i32;
        // SAFETY: the id outlives the call; without an event it is a signal, which never comes in time.
        let made = unsafe {
            libc::syscall(
                libc::SYS_timer_create,
                libc::CLOCK_MONOTONIC,
                null_mut::<u8>(),
                &raw mut id,
            )
        };
        assert_eq!(made, 0);
        ids.push(id);
    }
    for id in ids {
        // SAFETY: it is ours.
        unsafe { libc::syscall(libc::SYS_timer_delete, id) };
    }
}

fn threads() {
    let threads: Vec<_> = (0..5).map(|_| spawn(|| ())).collect();
    for thread in threads {
        thread.join().expect("it ends");
    }
}

fn signals() {
    let own = std::process::id().cast_signed();
    for value in 0..100 {
        let value = libc::sigval {
            sival_ptr: value as *mut _,
        };
        // SAFETY: sends a signal that is ignored.
        unsafe { libc::sigqueue(own, libc::SIGUSR1, value) };
    }
}
