//! Page faults.

use crate::memory::Memory;
use crate::sys;

pub fn write(memory: &mut Memory) {
    memory.write(&memory.some());
}

/// All pages, from several threads at once.
pub fn write_threads(memory: &mut Memory) {
    let (all, salt) = (memory.all(), memory.salt());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for address in &all {
                    Memory::write_unnoted(salt, *address);
                }
            });
        }
    });
    memory.note_words(&all);
}

pub fn lock(memory: &mut Memory) {
    // SAFETY: no content changes.
    sys::checked("mlock", unsafe {
        libc::mlock(memory.start as *const _, memory.bytes())
    });
    memory.check();
    write(memory);
}

pub fn populate(memory: &mut Memory) {
    sys::advise(memory.start, memory.bytes(), libc::MADV_POPULATE_WRITE);
    memory.check();
    write(memory);
}
