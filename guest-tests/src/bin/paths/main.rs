//! A process that does one thing to its memory when it is told: `paths KIND ACTION [DEVICE]`. Says on its first line where
//! the memory is. At the first line on its standard input it acts, looks at all of its memory, and says when that was
//! (CLOCK_MONOTONIC); at the second it looks again, writes everything, and says that it was right.

use std::sync::atomic::{AtomicI64, Ordering};

mod family;
mod kernel;
mod mapping;
mod memory;
mod ring;
mod sys;
mod touch;
mod userfault;

use memory::{Content, Memory, PAGES, SALT};

/// What is done once it is told; what comes before it was done on the way.
type Action = Box<dyn FnOnce(&mut Memory)>;

/// When the action began.
static BEGIN: AtomicI64 = AtomicI64::new(0);

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments[1] == family::AFTER_EXEC {
        BEGIN.store(arguments[2].parse().expect("a time"), Ordering::Relaxed);
        return acted(None);
    }
    let mut memory = Memory::new(&arguments[1]);
    let device = arguments.get(3).map_or("", String::as_str);
    let act = prepare(&arguments[2], &mut memory, device);
    let file = memory.file.as_ref().map_or(0, std::os::fd::AsRawFd::as_raw_fd);
    println!("region {} pages {PAGES} salt {SALT} file {file}", memory.start);
    wait();
    BEGIN.store(sys::now(), Ordering::Relaxed);
    act(&mut memory);
    acted(Some(memory));
}

fn acted(mut memory: Option<Memory>) {
    if let Some(memory) = &memory {
        memory.check();
    }
    println!("begin {} end {}", BEGIN.load(Ordering::Relaxed), sys::now());
    wait();
    if let Some(memory) = &mut memory {
        memory.check();
        memory.renew();
    }
    println!("right");
    wait();
}

/// A line, or the end.
fn wait() {
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("standard input is text");
}

fn prepare(action: &str, memory: &mut Memory, device: &str) -> Action {
    match action {
        "nothing" | "killed" => Box::new(|_| {}),
        // Somebody else does something; then this writes.
        "write" => Box::new(touch::write),
        "write_threads" => Box::new(touch::write_threads),
        "mlock" => Box::new(touch::lock),
        "populate" => Box::new(touch::populate),
        // Somebody else has written.
        "written" => Box::new(|memory| memory.note_all(&memory.span(100, 400), Content::Byte(0x5a))),
        "poked" => Box::new(|memory| {
            memory
                .span(100, 400)
                .into_iter()
                .for_each(|page| memory.note_poked(page));
        }),
        // The same, and its memory is not for reading.
        "written_unseen" => Box::new(|memory| memory.forget(&memory.all())),
        "written_readonly" => Box::new(|memory| {
            memory.note_all(&memory.span(100, 400), Content::Byte(0x5a));
            memory.check();
            memory.forget(&memory.all());
        }),
        "read_file" => Box::new(kernel::read_file),
        "read_pipe" => Box::new(kernel::read_pipe),
        "read_zeros" => Box::new(kernel::read_zeros),
        "read_direct" => kernel::read_direct(device),
        "vmsplice" => Box::new(kernel::vmsplice),
        "fixed" => kernel::read_fixed(memory),
        "register" => Box::new(kernel::register_and_read),
        "fork" => Box::new(family::fork),
        "fork_shared" => Box::new(family::fork_shared),
        "vfork" => Box::new(family::vfork),
        "exec" => Box::new(family::exec),
        "exit" => Box::new(family::exit),
        "userfault_protect" => userfault::protect(memory),
        "userfault_continue" => userfault::continue_elsewhere(memory),
        "userfault_move" => userfault::relocate(memory),
        other => Box::new(mapping::action(other)),
    }
}
