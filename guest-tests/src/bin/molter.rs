//! Becomes a shell once it has read a line, by an `execve()` of a thread that is not its first: the kernel gives that one the
//! number of the first, which goes. The shell says so, and waits for another line.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

fn main() {
    let thread = std::thread::spawn(|| {
        // SAFETY: asks for a number.
        let own = unsafe { libc::gettid() };
        println!("pid {} thread {own}", std::process::id());
        std::io::stdin()
            .read_line(&mut String::new())
            .expect("it is told");
        Command::new("sh").args(["-c", "echo shell $$; read line"]).exec()
    });
    let error = thread.join().expect("the thread has no reason to panic");
    panic!("there is no shell: {error}");
}
