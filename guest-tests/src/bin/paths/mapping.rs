//! Changes of the mapping.

use crate::memory::{Memory, PAGE, PAGES, TABLE, ZERO};
use crate::sys;

/// Pages of both tables, and all of neither.
const FIRST: usize = 256;
const LAST: usize = 768;
const BYTES: usize = (LAST - FIRST) * PAGE;

/// The action of a name.
pub fn action(name: &str) -> fn(&mut Memory) {
    match name {
        "move" => relocate,
        "move_tables" => relocate_tables,
        "move_over" => move_over,
        "grow" => grow,
        "shrink" => shrink,
        "move_content" => move_content,
        "protect" => protect,
        "split" => split,
        "unmap" => unmap,
        "unmap_table" => unmap_table,
        "drop" => drop_pages,
        "free" => free,
        "page_out" => page_out,
        "cold" => cold,
        "collapse" => collapse,
        "offline" => offline,
        "truncate" => truncate,
        "drop_shared" => drop_shared,
        "punch" => punch,
        "cut" => cut,
        other => panic!("{other}"),
    }
}

fn anew(memory: &mut Memory, first: usize, last: usize) {
    let fixed = sys::PRIVATE | libc::MAP_FIXED;
    sys::map(memory.at(first), (last - first) * PAGE, fixed, -1);
    let pages = memory.span(first, last);
    memory.note_all(&pages, ZERO);
    memory.check();
    memory.write(&pages);
}

fn relocate(memory: &mut Memory) {
    let place = sys::map(0, BYTES, sys::PRIVATE, -1);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    sys::remap(memory.at(FIRST), BYTES, BYTES, flags, place);
    memory.moved(&memory.span(FIRST, LAST), place);
    memory.check();
    memory.write(&(place..place + BYTES / 2).step_by(PAGE).collect::<Vec<_>>());
    anew(memory, FIRST, LAST);
}

/// The page tables themselves move.
fn relocate_tables(memory: &mut Memory) {
    let bytes = memory.bytes();
    let place = sys::map(0, bytes + TABLE, sys::PRIVATE, -1).next_multiple_of(TABLE);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    sys::remap(memory.start, bytes, bytes, flags, place);
    memory.moved(&memory.all(), place);
    memory.check();
    memory.write(&(place..place + bytes).step_by(2 * PAGE).collect::<Vec<_>>());
    anew(memory, 0, PAGES);
}

/// Onto other pages of the region, which go.
fn move_over(memory: &mut Memory) {
    let (from, to) = (memory.at(0), memory.at(600));
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    sys::remap(from, 300 * PAGE, 300 * PAGE, flags, to);
    memory.forget(&memory.span(600, 900));
    memory.moved(&memory.span(0, 300), to);
    memory.check();
    memory.write(&memory.span(550, 700));
    anew(memory, 0, 300);
}

fn grow(memory: &mut Memory) {
    let bytes = memory.bytes();
    let next = sys::PRIVATE | libc::MAP_FIXED_NOREPLACE;
    sys::map(memory.start + bytes, PAGE, next, -1);
    let place = sys::remap(memory.start, bytes, bytes + TABLE, libc::MREMAP_MAYMOVE, 0);
    assert_ne!(place, memory.start);
    memory.moved(&memory.all(), place);
    memory.note(place + bytes, ZERO);
    memory.check();
    memory.write(
        &(place..place + bytes + PAGE)
            .step_by(3 * PAGE)
            .collect::<Vec<_>>(),
    );
}

fn shrink(memory: &mut Memory) {
    let left = 700;
    sys::remap(memory.start, memory.bytes(), left * PAGE, 0, 0);
    memory.forget(&memory.span(left, PAGES));
    memory.write(&memory.span(600, left));
    anew(memory, left, PAGES);
}

/// The pages go elsewhere, the mapping stays.
fn move_content(memory: &mut Memory) {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    let place = sys::remap(memory.at(FIRST), BYTES, BYTES, flags, 0);
    memory.moved(&memory.span(FIRST, LAST), place);
    memory.note_all(&memory.span(FIRST, LAST), ZERO);
    memory.check();
    memory.write(&memory.span(FIRST, LAST));
    memory.write(&(place..place + BYTES).step_by(2 * PAGE).collect::<Vec<_>>());
}

fn protect(memory: &mut Memory) {
    sys::protect(memory.at(FIRST), BYTES, libc::PROT_READ);
    memory.check();
    sys::protect(memory.at(FIRST), BYTES, sys::OPEN);
    memory.write(&memory.span(FIRST, LAST));
}

/// One page of each table becomes another mapping.
fn split(memory: &mut Memory) {
    for page in [5, 600] {
        sys::protect(memory.at(page), PAGE, libc::PROT_READ | libc::PROT_EXEC);
        memory.write(&memory.span(page - 2, page));
        memory.write(&memory.span(page + 1, page + 200));
        sys::protect(memory.at(page), PAGE, sys::OPEN);
    }
}

fn unmap(memory: &mut Memory) {
    sys::unmap(memory.at(FIRST), BYTES);
    memory.forget(&memory.span(FIRST, LAST));
    memory.check();
    anew(memory, FIRST, LAST);
}

/// The page table itself is freed.
fn unmap_table(memory: &mut Memory) {
    sys::unmap(memory.start, memory.bytes());
    memory.forget(&memory.all());
    anew(memory, 0, PAGES / 2);
}

fn drop_pages(memory: &mut Memory) {
    sys::advise(memory.at(FIRST), BYTES, libc::MADV_DONTNEED);
    memory.note_all(&memory.span(FIRST, LAST), ZERO);
    memory.check();
    memory.write(&memory.span(FIRST, (FIRST + LAST) / 2));
}

fn free(memory: &mut Memory) {
    sys::advise(memory.at(FIRST), BYTES, libc::MADV_FREE);
    for page in memory.span(FIRST, LAST) {
        memory.note_free(page);
    }
    memory.write(&memory.span(FIRST, (FIRST + LAST) / 2));
    page_out(memory);
}

fn page_out(memory: &mut Memory) {
    sys::advise(memory.at(FIRST), BYTES, libc::MADV_PAGEOUT);
    memory.check();
    memory.write(&memory.span(FIRST, LAST));
}

fn cold(memory: &mut Memory) {
    sys::advise(memory.at(1), memory.bytes() - 2 * PAGE, libc::MADV_COLD);
    memory.check();
    memory.write(&memory.some());
}

/// A huge page of small ones. That something else holds them is a reason to leave it.
fn collapse(memory: &mut Memory) {
    sys::advise(memory.start, memory.bytes(), libc::MADV_HUGEPAGE);
    // One must be writable.
    memory.write(&[memory.at(7), memory.at(700)]);
    drop(sys::try_advise(memory.start, memory.bytes(), libc::MADV_COLLAPSE));
    memory.check();
    memory.write(&memory.some());
}

/// Moves pages to other frames, if it can.
fn offline(memory: &mut Memory) {
    const MADV_SOFT_OFFLINE: i32 = 101;
    for page in [3, 511, 512] {
        drop(sys::try_advise(memory.at(page), PAGE, MADV_SOFT_OFFLINE));
    }
    memory.check();
    memory.write(&memory.some());
}

fn truncate(memory: &mut Memory) {
    sys::resize(memory.descriptor(), FIRST * PAGE);
    sys::resize(memory.descriptor(), memory.bytes());
    memory.note_all(&memory.span(FIRST, PAGES), ZERO);
    memory.check();
    memory.write(&memory.span(FIRST, LAST));
}

/// The entries go, what is in the file stays.
fn drop_shared(memory: &mut Memory) {
    sys::advise(memory.at(FIRST), BYTES, libc::MADV_DONTNEED);
    memory.check();
    memory.write(&memory.span(FIRST, LAST));
}

/// A hole that begins and ends in the midst of pages.
fn punch(memory: &mut Memory) {
    sys::punch(memory.descriptor(), 100 * PAGE + 1000, 300 * PAGE);
    memory.forget(&memory.span(100, 101));
    memory.forget(&memory.span(400, 401));
    memory.note_all(&memory.span(101, 400), ZERO);
    memory.check();
    memory.write(&memory.span(200, 300));
}

/// The file ends in the midst of a page for a while.
fn cut(memory: &mut Memory) {
    sys::resize(memory.descriptor(), 500 * PAGE + 1000);
    sys::resize(memory.descriptor(), memory.bytes());
    memory.forget(&memory.span(500, 501));
    memory.note_all(&memory.span(501, PAGES), ZERO);
    memory.check();
    memory.write(&memory.span(600, 700));
}
