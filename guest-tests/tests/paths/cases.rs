//! What is done to the memory, and who must take the references then.

use guest_tests::target::Target;
use snap_common::abi::{PATH_BACKGROUND, PATH_FAULT, PATH_GUP, PATH_NOTIFIER, PATH_STOP};

use crate::outside;

/// One thing that is done.
pub struct Case {
    /// What the target does, as `paths` names it.
    pub action: &'static str,
    /// What is done to it before that, from outside.
    pub outside: fn(&Target),
    /// The kinds of memory that it is done to.
    pub kinds: &'static [&'static str],
    /// Who takes the references ...
    pub path: u32,
    /// ... to so many pages at least, of 1024.
    pub pages: u64,
}

/// By a page table's entries, huge, huge but by a page table's entries, in between, and a private file mapping.
const ALL: &[&str] = &["small", "huge", "torn", "mid", "file"];
const ANONYMOUS: &[&str] = &["small", "huge", "torn", "mid"];
const SMALL: &[&str] = &["small"];
/// In huge pages, or in what is left of them.
const HUGE: &[&str] = &["huge", "torn", "mid"];

const fn case(action: &'static str, kinds: &'static [&'static str], path: u32, pages: u64) -> Case {
    Case {
        action,
        outside: outside::nothing,
        kinds,
        path,
        pages,
    }
}

const fn from_outside(
    outside: fn(&Target),
    action: &'static str,
    kinds: &'static [&'static str],
    path: u32,
    pages: u64,
) -> Case {
    Case {
        outside,
        ..case(action, kinds, path, pages)
    }
}

/// All of them.
pub const CASES: &[Case] = &[
    case("nothing", ALL, PATH_BACKGROUND, 1024),
    case("write", ALL, PATH_FAULT, 343),
    case("write_threads", ALL, PATH_FAULT, 1024),
    case("mlock", ALL, PATH_FAULT, 1024),
    case("populate", ALL, PATH_FAULT, 1024),
    case("read_file", ALL, PATH_FAULT, 300),
    case("read_pipe", ALL, PATH_FAULT, 300),
    case("read_zeros", ALL, PATH_FAULT, 300),
    case("read_direct", ALL, PATH_FAULT, 300),
    case("vmsplice", ALL, PATH_FAULT, 256),
    case("fixed", ALL, PATH_STOP, 300),
    case("register", ALL, PATH_FAULT, 300),
    case("fork", ALL, PATH_NOTIFIER, 1024),
    case("vfork", ALL, PATH_FAULT, 300),
    case("exec", ALL, PATH_BACKGROUND, 1024),
    case("exit", ALL, PATH_BACKGROUND, 1024),
    case("move", ALL, PATH_NOTIFIER, 512),
    case("move_tables", ALL, PATH_NOTIFIER, 1024),
    case("move_over", ALL, PATH_NOTIFIER, 600),
    case("grow", ALL, PATH_NOTIFIER, 1024),
    case("shrink", ALL, PATH_NOTIFIER, 324),
    case("move_content", ALL, PATH_NOTIFIER, 512),
    case("protect", ALL, PATH_NOTIFIER, 512),
    case("split", ALL, PATH_NOTIFIER, 2),
    case("unmap", ALL, PATH_NOTIFIER, 512),
    case("unmap_table", ALL, PATH_NOTIFIER, 1024),
    case("drop", ALL, PATH_NOTIFIER, 512),
    case("free", ANONYMOUS, PATH_NOTIFIER, 512),
    case("page_out", SMALL, PATH_NOTIFIER, 256),
    case("page_out", HUGE, PATH_NOTIFIER, 512),
    case("cold", &["small", "file"], PATH_FAULT, 300),
    // What is cold in part only is split.
    case("cold", HUGE, PATH_NOTIFIER, 16),
    case("collapse", SMALL, PATH_NOTIFIER, 1000),
    case("offline", SMALL, PATH_FAULT, 300),
    case("truncate", &["file"], PATH_NOTIFIER, 768),
    case("userfault_protect", ANONYMOUS, PATH_NOTIFIER, 1024),
    case("userfault_move", SMALL, PATH_FAULT, 150),
    from_outside(outside::clear_soft_dirty, "write", ALL, PATH_NOTIFIER, 1024),
    from_outside(outside::compact, "write", ALL, PATH_FAULT, 0),
    from_outside(outside::merge, "write", &["same"], PATH_NOTIFIER, 1),
    from_outside(outside::write_by_vm, "written", ALL, PATH_FAULT, 300),
    from_outside(outside::write_by_proc, "written", ALL, PATH_GUP, 300),
    from_outside(outside::poke, "poked", ALL, PATH_GUP, 300),
    from_outside(
        outside::write_by_proc,
        "written_readonly",
        &["readonly"],
        PATH_GUP,
        300,
    ),
    from_outside(
        outside::write_by_proc,
        "written_unseen",
        &["inaccessible"],
        PATH_GUP,
        300,
    ),
    from_outside(outside::poke, "written_unseen", &["readonly"], PATH_GUP, 300),
    from_outside(outside::kill, "killed", ALL, PATH_BACKGROUND, 1024),
];
