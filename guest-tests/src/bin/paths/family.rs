//! Processes that come and go.

use std::ffi::c_void;
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::Ordering;

use crate::memory::Memory;
use crate::{BEGIN, sys};

/// The first argument of the program that [`exec`] starts.
pub const AFTER_EXEC: &str = "after";

/// Parent and child both go on to write.
pub fn fork(memory: &mut Memory) {
    // SAFETY: there is no other thread.
    let child = unsafe { libc::fork() };
    sys::checked("fork", child);
    if child == 0 {
        memory.part();
        memory.check();
        write_and_check(memory, 200, 800);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    write_and_check(memory, 0, 300);
    reap(child);
    memory.check();
}

/// The child writes to what both have, through entries of its own.
pub fn fork_shared(memory: &mut Memory) {
    // SAFETY: there is no other thread.
    let child = unsafe { libc::fork() };
    sys::checked("fork", child);
    if child == 0 {
        memory.check();
        write_and_check(memory, 200, 1000);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    reap(child);
    memory.note_words(&memory.span(200, 1000));
    memory.check();
}

fn write_and_check(memory: &mut Memory, first: usize, last: usize) {
    for address in memory.span(first, last) {
        memory.write(&[address]);
    }
    memory.check();
}

fn reap(child: i32) {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let reaped = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((reaped, status), (child, 0), "the child ends well");
}

/// A child in the same memory writes to it, and goes on to another program.
pub fn vfork(memory: &mut Memory) {
    const STACK: usize = 256 << 10;
    let stack = sys::map(0, STACK, sys::PRIVATE, -1) + STACK;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: this thread waits until the child has left the memory; the stack is the child's own.
    let child = unsafe { libc::clone(write_and_exec, stack as *mut _, flags, (&raw mut *memory).cast()) };
    sys::checked("clone", child);
    reap(child);
}

extern "C" fn write_and_exec(memory: *mut c_void) -> i32 {
    // SAFETY: vfork() passes its own, and waits.
    let memory = unsafe { &mut *memory.cast::<Memory>() };
    for address in memory.span(300, 600) {
        memory.write(&[address]);
    }
    let arguments = [c"true".as_ptr(), std::ptr::null()];
    // SAFETY: C strings, the last of them NULL.
    unsafe { libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr()) };
    1
}

pub fn exec(_: &mut Memory) {
    let program = std::env::current_exe().expect("it has a name");
    let error = std::process::Command::new(program)
        .args([AFTER_EXEC, &BEGIN.load(Ordering::Relaxed).to_string()])
        .exec();
    panic!("{error}");
}

pub fn exit(_: &mut Memory) {
    std::process::exit(0);
}
