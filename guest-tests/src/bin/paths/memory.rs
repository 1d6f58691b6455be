//! The memory that things are done to, and what must be in it.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::sys;

pub const PAGE: usize = 4096;
/// What one page table maps.
pub const TABLE: usize = 2 << 20;
/// Two tables.
pub const PAGES: usize = 1024;
/// Where nothing else is: what the runtime does to its own memory must not reach the same tables, of any level.
const ALONE: usize = 0x2000_0000_0000;
/// The word at address `a` is `a ^ SALT` at first.
pub const SALT: usize = 0x5bd1_e995_9e37_79b9;

/// What a page holds.
#[derive(Clone, Copy)]
pub enum Content {
    Words {
        origin: usize,
        salt: usize,
    },
    /// As before, but for the first word.
    Poked {
        origin: usize,
        salt: usize,
    },
    Byte(u8),
    /// The kernel may have dropped it.
    WordsOrZero {
        origin: usize,
        salt: usize,
    },
}

pub const ZERO: Content = Content::Byte(0);
/// What is in the first word of a page that a debugger wrote to.
pub const POKED: usize = 0x7777_7777_7777_7777;

pub struct Memory {
    pub start: usize,
    pub file: Option<OwnedFd>,
    pages: BTreeMap<usize, Content>,
    salt: usize,
}

impl Memory {
    /// Memory of a kind, every page written.
    pub fn new(kind: &str) -> Self {
        let bytes = PAGES * PAGE;
        let start = ALONE;
        let shared = ["shared", "shared_huge"].contains(&kind);
        let file = (kind == "file" || shared).then(|| sys::memory_file(bytes + TABLE));
        let flags = match &file {
            Some(_) if shared => libc::MAP_SHARED,
            Some(_) => libc::MAP_PRIVATE,
            None => sys::PRIVATE,
        };
        let descriptor = file.as_ref().map_or(-1, std::os::fd::AsRawFd::as_raw_fd);
        if kind == "system_v" {
            sys::attach_system_v(start, bytes);
        } else {
            sys::map(start, bytes, flags | libc::MAP_FIXED_NOREPLACE, descriptor);
        }
        let huge = ["huge", "torn", "mid", "shared_huge"].contains(&kind);
        if kind != "file" {
            let advice = if huge {
                libc::MADV_HUGEPAGE
            } else {
                libc::MADV_NOHUGEPAGE
            };
            sys::advise(start, bytes, advice);
        }
        let mut memory = Self {
            start,
            file,
            pages: BTreeMap::new(),
            salt: SALT,
        };
        for address in memory.all() {
            // The same in every page, for KSM to merge.
            let origin = if kind == "same" { 0 } else { address };
            memory.fill(address, origin);
        }
        match kind {
            // Mapped by entries of its own for every small page, but still huge pages.
            "torn" => {
                for middle in [start + TABLE / 2, start + TABLE + TABLE / 2] {
                    sys::protect(middle, PAGE, libc::PROT_READ);
                    sys::protect(middle, PAGE, sys::OPEN);
                }
            }
            "same" => sys::advise(start, bytes, libc::MADV_MERGEABLE),
            "readonly" => sys::protect(start, bytes, libc::PROT_READ),
            "inaccessible" => sys::protect(start, bytes, libc::PROT_NONE),
            _ => {}
        }
        memory.salt = !SALT;
        memory
    }

    pub fn at(&self, page: usize) -> usize {
        self.start + page * PAGE
    }

    pub fn bytes(&self) -> usize {
        PAGES * PAGE
    }

    pub fn descriptor(&self) -> i32 {
        self.file.as_ref().expect("it is a file's").as_raw_fd()
    }

    /// The addresses of pages from the first to before the last.
    pub fn span(&self, first: usize, last: usize) -> Vec<usize> {
        (first..last).map(|page| self.at(page)).collect()
    }

    pub fn all(&self) -> Vec<usize> {
        self.span(0, PAGES)
    }

    /// Every third page, and those at the edges of the tables.
    pub fn some(&self) -> Vec<usize> {
        let edge = |page: &usize| page.is_multiple_of(3) || [511, 512, PAGES - 1].contains(page);
        (0..PAGES).filter(edge).map(|page| self.at(page)).collect()
    }

    fn fill(&mut self, address: usize, origin: usize) {
        for offset in (0..PAGE).step_by(8) {
            store(address + offset, (origin + offset) ^ self.salt);
        }
        self.note(
            address,
            Content::Words {
                origin,
                salt: self.salt,
            },
        );
    }

    /// Writes new words.
    pub fn write(&mut self, addresses: &[usize]) {
        for address in addresses {
            self.fill(*address, *address);
        }
    }

    /// Writes to a page of the file where it is mapped once more.
    pub fn write_through(&mut self, place: usize, address: usize) {
        for offset in (0..PAGE).step_by(8) {
            store(place + offset, (address + offset) ^ self.salt);
        }
        self.note_words(&[address]);
    }

    /// As [`Self::write`], from a thread, without noting it.
    pub fn write_unnoted(salt: usize, address: usize) {
        for offset in (0..PAGE).step_by(8) {
            store(address + offset, (address + offset) ^ salt);
        }
    }

    /// What the next write writes.
    pub fn salt(&self) -> usize {
        self.salt
    }

    /// A child that goes its own way writes something else.
    pub fn part(&mut self) {
        self.salt = self.salt.rotate_left(7);
    }

    /// Something else wrote it.
    pub fn note(&mut self, address: usize, content: Content) {
        self.pages.insert(address, content);
    }

    pub fn note_all(&mut self, addresses: &[usize], content: Content) {
        for address in addresses {
            self.note(*address, content);
        }
    }

    /// Something else wrote the first word.
    pub fn note_poked(&mut self, address: usize) {
        let Content::Words { origin, salt } = self.pages[&address] else {
            panic!("it holds words");
        };
        self.note(address, Content::Poked { origin, salt });
    }

    /// The kernel may drop it from now on.
    pub fn note_free(&mut self, address: usize) {
        let Content::Words { origin, salt } = self.pages[&address] else {
            panic!("it holds words");
        };
        self.note(address, Content::WordsOrZero { origin, salt });
    }

    /// It is not there any more.
    pub fn forget(&mut self, addresses: &[usize]) {
        for address in addresses {
            self.pages.remove(address);
        }
    }

    /// Somebody has written there as [`Self::write`] does.
    pub fn note_words(&mut self, addresses: &[usize]) {
        for address in addresses {
            let content = Content::Words {
                origin: *address,
                salt: self.salt,
            };
            self.note(*address, content);
        }
    }

    /// It lies elsewhere now.
    pub fn moved(&mut self, addresses: &[usize], to: usize) {
        let contents: Vec<_> = addresses
            .iter()
            .map(|address| self.pages.remove(address).expect("it was there"))
            .collect();
        for (content, address) in contents.into_iter().zip((to..).step_by(PAGE)) {
            self.note(address, content);
        }
    }

    pub fn has(&self, address: usize) -> bool {
        self.pages.contains_key(&address)
    }

    /// What is in pages now, as bytes.
    pub fn copies(&self, first: usize, last: usize) -> Vec<Vec<u8>> {
        let words = |page: usize| (page..page + PAGE).step_by(8);
        let copy = |page: usize| words(page).flat_map(|word| load(word).to_ne_bytes()).collect();
        self.span(first, last).into_iter().map(copy).collect()
    }

    /// Looks at all of it. Panics where something else is found.
    pub fn check(&self) {
        for (address, content) in &self.pages {
            assert!(
                content.is_at(*address),
                "page {:#x} ({}) of the target is wrong: {:#x}",
                address,
                address.wrapping_sub(self.start) / PAGE,
                load(*address)
            );
        }
    }

    /// Writes all of it, and looks.
    pub fn renew(&mut self) {
        self.part();
        let addresses: Vec<_> = self.pages.keys().copied().collect();
        self.write(&addresses);
        self.check();
    }
}

impl Content {
    fn word(self, offset: usize) -> usize {
        match self {
            Self::Poked { .. } if offset == 0 => POKED,
            Self::Words { origin, salt }
            | Self::Poked { origin, salt }
            | Self::WordsOrZero { origin, salt } => (origin + offset) ^ salt,
            Self::Byte(byte) => usize::from_ne_bytes([byte; 8]),
        }
    }

    pub fn is_at(self, address: usize) -> bool {
        let all = |content: Self| {
            (0..PAGE)
                .step_by(8)
                .all(|offset| load(address + offset) == content.word(offset))
        };
        all(self) || matches!(self, Self::WordsOrZero { .. }) && all(ZERO)
    }
}

pub fn store(address: usize, word: usize) {
    // SAFETY: the callers name mapped words that nobody else looks at meanwhile.
    unsafe { (address as *mut usize).write_volatile(word) };
}

pub fn load(address: usize) -> usize {
    // SAFETY: as above.
    unsafe { (address as *const usize).read_volatile() }
}
