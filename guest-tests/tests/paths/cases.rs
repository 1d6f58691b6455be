//! What is done to the memory, and who must take the references then.

use guest_tests::target::Target;
use snap_common::abi::{PATH_BACKGROUND, PATH_FAULT, PATH_FILE, PATH_GUP, PATH_NOTIFIER, PATH_STOP};

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

impl Case {
    /// Somebody else reads the file through a mapping before writing to it.
    pub fn is_mapped_and_read(&self) -> bool {
        std::ptr::fn_addr_eq(self.outside, outside::map_read_and_write as fn(&Target))
    }
}

/// By a page table's entries, huge, huge but by a page table's entries, in between, and a private file mapping.
const ALL: &[&str] = &["small", "huge", "torn", "mid", "file"];
const ANONYMOUS: &[&str] = &["small", "huge", "torn", "mid"];
const SMALL: &[&str] = &["small"];
/// In huge pages, or in what is left of them.
const HUGE: &[&str] = &["huge", "torn", "mid"];

/// A memfd in small and in huge pages, and what has no descriptor.
const SHARED: &[&str] = &["shared", "shared_huge", "system_v"];
const MEMFD: &[&str] = &["shared", "shared_huge"];

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
    // Shared memory. What changes entries alone changes nothing; what makes them writable, or writes to the file, does.
    case("nothing", SHARED, PATH_BACKGROUND, 1024),
    case("write", SHARED, PATH_FAULT, 343),
    case("write_threads", SHARED, PATH_FAULT, 1024),
    case("mlock", SHARED, PATH_FAULT, 343),
    case("populate", SHARED, PATH_FAULT, 1024),
    case("read_file", SHARED, PATH_FAULT, 300),
    case("read_pipe", SHARED, PATH_FAULT, 300),
    case("read_zeros", SHARED, PATH_FAULT, 300),
    case("read_direct", SHARED, PATH_FAULT, 300),
    case("vmsplice", SHARED, PATH_FAULT, 256),
    case("fixed", MEMFD, PATH_STOP, 300),
    case("register", MEMFD, PATH_FAULT, 300),
    case("fork_shared", SHARED, PATH_FAULT, 800),
    case("vfork", SHARED, PATH_FAULT, 300),
    case("exec", SHARED, PATH_BACKGROUND, 1024),
    case("exit", SHARED, PATH_BACKGROUND, 1024),
    case("move", SHARED, PATH_FAULT, 256),
    case("move_tables", SHARED, PATH_FAULT, 512),
    case("move_over", SHARED, PATH_FAULT, 150),
    case("grow", MEMFD, PATH_FAULT, 341),
    case("shrink", SHARED, PATH_FAULT, 100),
    case("protect", SHARED, PATH_NOTIFIER, 512),
    case("split", SHARED, PATH_NOTIFIER, 2),
    case("unmap", &["shared", "system_v"], PATH_BACKGROUND, 1024),
    // The rest of a huge page is mapped anew, page by page.
    case("unmap", &["shared_huge"], PATH_FAULT, 1024),
    case("unmap_table", SHARED, PATH_BACKGROUND, 1024),
    case("drop_shared", SHARED, PATH_FAULT, 512),
    case("page_out", SHARED, PATH_FAULT, 512),
    case("cold", SHARED, PATH_FAULT, 343),
    case("collapse", &["shared"], PATH_FAULT, 343),
    case("offline", &["shared", "system_v"], PATH_FAULT, 343),
    // A page that was removed is held as it is.
    case("truncate", &["shared"], PATH_FAULT, 768),
    case("truncate", &["shared_huge"], PATH_FILE, 768),
    case("punch", &["shared"], PATH_FILE, 2),
    case("punch", &["shared_huge"], PATH_FILE, 300),
    case("cut", &["shared"], PATH_FILE, 1),
    case("cut", &["shared_huge"], PATH_FILE, 500),
    case("userfault_protect", MEMFD, PATH_NOTIFIER, 1024),
    case("userfault_continue", MEMFD, PATH_NOTIFIER, 300),
    from_outside(outside::clear_soft_dirty, "write", SHARED, PATH_FAULT, 343),
    from_outside(outside::compact, "write", SHARED, PATH_FAULT, 0),
    from_outside(outside::write_by_vm, "written", SHARED, PATH_FAULT, 300),
    from_outside(outside::write_by_proc, "written", SHARED, PATH_FAULT, 300),
    from_outside(outside::poke, "poked", SHARED, PATH_FAULT, 300),
    from_outside(outside::write_to_file, "written", MEMFD, PATH_FILE, 300),
    from_outside(outside::map_and_write, "written", MEMFD, PATH_FAULT, 300),
    from_outside(outside::map_read_and_write, "written", MEMFD, PATH_FAULT, 300),
    from_outside(outside::kill, "killed", SHARED, PATH_BACKGROUND, 1024),
];
