//! Memory of every kind that a process can have, still until it is told to change. Says on one line where each kind
//! is; every line on its standard input makes it write a new pattern over all that it may write, and answer with a
//! line. The word at address `a` after `n` changes is `a ^ n`; after none, `a`. Usage: `menagerie [unmerged]`: without KSM.

use std::io::BufRead as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use guest_tests::memory::pin;

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;
/// Pages of every kind but the huge ones.
const PAGES: usize = 16;

/// A stretch of memory.
struct Kind {
    name: &'static str,
    start: usize,
    pages: usize,
    protection: i32,
}

fn main() {
    let mut kinds = vec![
        plain("private"),
        same_pages(),
        same_pages_again(),
        file("cow_file", libc::MAP_PRIVATE, Backing::Disk),
        file("cow_memfd", libc::MAP_PRIVATE, Backing::Memory),
        file("memfd", libc::MAP_SHARED, Backing::Memory),
        system_v(),
        plain("readonly"),
        plain("inaccessible"),
        plain("undumped"),
        moved(),
        torn_huge_page(),
        huge_page(),
    ];
    let pinned = plain("pinned");
    let _ring = pin(pinned.start, pinned.bytes());
    kinds.push(pinned);
    for kind in &mut kinds {
        kind.fill(0);
        kind.protection = match kind.name {
            "readonly" => libc::PROT_READ,
            "inaccessible" => libc::PROT_NONE,
            _ => continue,
        };
        // SAFETY: the range is a mapping of ours.
        let protected = unsafe { libc::mprotect(kind.start as *mut _, kind.bytes(), kind.protection) };
        assert_eq!(protected, 0);
    }
    advise(
        kinds
            .iter()
            .find(|kind| kind.name == "undumped")
            .expect("it is among them"),
        libc::MADV_DONTDUMP,
    );
    kinds.extend(poisoned());
    kinds.push(ring());
    kinds.push(zero_huge_page());
    kinds.push(dropped());
    let line: Vec<_> = kinds
        .iter()
        .map(|kind| format!("{} {} {}_pages {}", kind.name, kind.start, kind.name, kind.pages))
        .collect();
    println!("{}", line.join(" "));
    for (change, line) in std::io::stdin().lock().lines().enumerate() {
        line.expect("standard input is text");
        for kind in kinds
            .iter()
            .filter(|kind| kind.protection == libc::PROT_READ | libc::PROT_WRITE)
        {
            kind.fill(change + 1);
        }
        println!("changed {}", change + 1);
    }
}

impl Kind {
    fn bytes(&self) -> usize {
        self.pages * PAGE
    }

    fn fill(&self, change: usize) {
        for address in (self.start..self.start + self.bytes()).step_by(8) {
            let value = match self.name {
                // The two must be equal for KSM to merge them.
                "ksm" | "ksm_again" => (address & (PAGES * PAGE - 1)) ^ change,
                _ => address ^ change,
            };
            // SAFETY: the range is mapped writable, and nobody else looks at it.
            unsafe { (address as *mut usize).write_volatile(value) };
        }
    }
}

fn map(bytes: usize, flags: i32, descriptor: i32) -> usize {
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            descriptor,
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    address as usize
}

/// Anonymous memory, aligned to its own size (a power of two) or to a huge page, with nothing mapped beside it.
fn anonymous(name: &'static str, pages: usize) -> Kind {
    let bytes = pages * PAGE;
    let around = map(2 * bytes + PAGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    Kind {
        name,
        start: around.next_multiple_of(bytes),
        pages,
        protection: libc::PROT_READ | libc::PROT_WRITE,
    }
}

fn plain(name: &'static str) -> Kind {
    anonymous(name, PAGES)
}

fn advise(kind: &Kind, advice: i32) {
    // SAFETY: the range is a mapping of ours, and nobody reads what an advice may drop.
    let advised = unsafe { libc::madvise(kind.start as *mut _, kind.bytes(), advice) };
    assert_eq!(
        advised,
        0,
        "{} {advice}: {}",
        kind.name,
        std::io::Error::last_os_error()
    );
}

/// Unless it was told not to.
fn let_merge(kind: &Kind) {
    if std::env::args().nth(1).as_deref() != Some("unmerged") {
        advise(kind, libc::MADV_MERGEABLE);
    }
}

fn same_pages() -> Kind {
    let kind = plain("ksm");
    let_merge(&kind);
    kind
}

fn same_pages_again() -> Kind {
    let kind = plain("ksm_again");
    let_merge(&kind);
    kind
}

#[derive(Clone, Copy)]
enum Backing {
    Disk,
    Memory,
}

fn file(name: &'static str, sharing: i32, backing: Backing) -> Kind {
    let descriptor = match backing {
        Backing::Disk => {
            let path = format!("/root/menagerie.{}", std::process::id());
            let file = std::fs::File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(&path)
                .expect("the file can be made");
            std::fs::remove_file(&path).expect("and unlinked");
            OwnedFd::from(file)
        }
        Backing::Memory => {
            // SAFETY: the name is a C string.
            let descriptor = unsafe { libc::memfd_create(c"menagerie".as_ptr(), libc::MFD_CLOEXEC) };
            assert!(descriptor >= 0);
            // SAFETY: it was just made, and nobody else has it.
            unsafe { OwnedFd::from_raw_fd(descriptor) }
        }
    };
    let bytes = i64::try_from(PAGES * PAGE).expect("small");
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::ftruncate(descriptor.as_raw_fd(), bytes) }, 0);
    Kind {
        name,
        start: map(PAGES * PAGE, sharing, descriptor.as_raw_fd()),
        pages: PAGES,
        protection: libc::PROT_READ | libc::PROT_WRITE,
    }
}

/// Pages that were written at another address: their index in the anonymous mapping is not that of their address.
fn moved() -> Kind {
    let mut kind = plain("moved");
    kind.fill(7);
    let place = plain("place");
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges are mappings of ours, and nobody looks at the one that is replaced.
    let address = unsafe {
        libc::mremap(
            kind.start as *mut _,
            kind.bytes(),
            kind.bytes(),
            flags,
            place.start as *mut libc::c_void,
        )
    };
    assert_eq!(address as usize, place.start);
    kind.start = place.start;
    kind
}

fn huge(name: &'static str) -> Kind {
    let kind = anonymous(name, HUGE / PAGE);
    advise(&kind, libc::MADV_HUGEPAGE);
    kind
}

fn huge_page() -> Kind {
    huge("huge")
}

/// What is left of a huge page whose first half was unmapped: mapped by PTEs, but still one folio.
fn torn_huge_page() -> Kind {
    let mut kind = huge("torn");
    kind.fill(7);
    let half = kind.bytes() / 2;
    // SAFETY: nobody looks at that half any more.
    assert_eq!(unsafe { libc::munmap(kind.start as *mut _, half) }, 0);
    kind.start += half;
    kind.pages /= 2;
    kind
}

/// The huge zero page: read and never written.
fn zero_huge_page() -> Kind {
    let mut kind = huge("zero");
    // SAFETY: the range is mapped.
    assert_eq!(unsafe { (kind.start as *const usize).read_volatile() }, 0);
    kind.protection = libc::PROT_READ;
    kind
}

/// Written once, then given back.
fn dropped() -> Kind {
    let mut kind = plain("dropped");
    kind.fill(7);
    advise(&kind, libc::MADV_DONTNEED);
    kind.protection = libc::PROT_READ;
    kind
}

/// Shared memory of System V.
fn system_v() -> Kind {
    // SAFETY: no memory is involved.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, PAGES * PAGE, 0o600) };
    assert!(id >= 0, "shmget: {}", std::io::Error::last_os_error());
    // SAFETY: attached at an address of the kernel's choice.
    let address = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    assert_ne!(address as isize, -1, "shmat: {}", std::io::Error::last_os_error());
    // SAFETY: it goes away with the last that has it attached.
    let removed = unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    assert_eq!(removed, 0, "shmctl: {}", std::io::Error::last_os_error());
    Kind {
        name: "system_v",
        start: address as usize,
        pages: PAGES,
        protection: libc::PROT_READ | libc::PROT_WRITE,
    }
}

/// Memory whose second page has a hardware error; none where the kernel cannot handle such (`CONFIG_MEMORY_FAILURE`).
fn poisoned() -> Option<Kind> {
    let mut kind = plain("poisoned");
    kind.fill(0);
    kind.protection = libc::PROT_READ;
    // SAFETY: nobody looks at that page any more.
    let done = unsafe { libc::madvise((kind.start + PAGE) as *mut _, PAGE, libc::MADV_HWPOISON) };
    (done == 0).then_some(kind)
}

/// The ring of an AIO context: a shared mapping of a file of the kernel's own. The context's id is its address.
fn ring() -> Kind {
    let mut context: usize = 0;
    // SAFETY: `context` has room for the id, and outlives the call.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) };
    assert_eq!(made, 0, "io_setup: {}", std::io::Error::last_os_error());
    Kind {
        name: "ring",
        start: context,
        pages: 1,
        protection: libc::PROT_READ,
    }
}
