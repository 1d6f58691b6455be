//! A process that never holds still. Usage: `restless exec|fork|clone|exit`: calls execve() on itself, forks children,
//! starts threads, all as fast as it can; or exits after a few milliseconds.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.len() == 2 {
        println!("pid {}", std::process::id());
    }
    match arguments[1].as_str() {
        "exec" => {
            let error = Command::new(&arguments[0]).args(["exec", "again"]).exec();
            panic!("{error}");
        }
        "fork" => loop {
            // SAFETY: the child calls nothing but _exit.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
        },
        "clone" => loop {
            let threads: Vec<_> = (0..4)
                .map(|_| std::thread::spawn(|| std::hint::black_box(1)))
                .collect();
            for thread in threads {
                thread.join().expect("the thread ends");
            }
        },
        "exit" => std::thread::sleep(Duration::from_millis(30)),
        other => panic!("{other}"),
    }
}
