//! Where the running kernel keeps the fields of its structs: its own description of them (BTF), as far as that is needed. aya
//! relocates no fields in programs written in Rust, and describes no modules.
//!
//! The format: <https://docs.kernel.org/bpf/btf.html>. A module's BTF goes on where that of the kernel ends, in its strings too.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;

/// The description of the kernel, or what a module adds to it.
pub(super) struct Btf {
    bytes: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
}

impl Btf {
    /// Reads `/sys/kernel/btf/NAME`.
    pub(super) fn of(name: &str) -> io::Result<Self> {
        let bytes = fs::read(Path::new("/sys/kernel/btf").join(name))?;
        Self::parse(bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it makes no sense"))
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let number = |at| usize::try_from(word(&bytes, at)?).ok();
        let header = number(4)?;
        let part = |offset: usize, length: usize| {
            let begin = header.checked_add(offset)?;
            let end = begin.checked_add(length)?;
            (end <= bytes.len()).then_some(begin..end)
        };
        let types = part(number(8)?, number(12)?)?;
        let strings = part(number(16)?, number(20)?)?;
        Some(Self {
            bytes,
            types,
            strings,
        })
    }

    /// The offset of a field in bytes. `base` is the kernel's, where this is a module's.
    pub(super) fn offset(&self, base: Option<&Self>, structure: &str, field: &str) -> Option<u32> {
        let mut at = self.types.start;
        while at < self.types.end {
            let info = word(&self.bytes, at + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
            let body = at + 12;
            if kind == STRUCT && self.is_named(base, word(&self.bytes, at)?, structure) {
                let found = (0..members).map(|number| body + 12 * number).find(|member| {
                    word(&self.bytes, *member).is_some_and(|name| self.is_named(base, name, field))
                });
                if let Some(member) = found {
                    let bits = word(&self.bytes, member + 8)?;
                    // Where a struct has bit fields, the upper byte is the width of one.
                    let bits = if info >> 31 == 1 { bits & 0xff_ffff } else { bits };
                    return Some(bits / 8);
                }
            }
            at = body + extra(kind, members)?;
        }
        None
    }

    fn is_named(&self, base: Option<&Self>, offset: u32, name: &str) -> bool {
        let Ok(offset) = usize::try_from(offset) else {
            return false;
        };
        let below = base.map_or(0, |base| base.strings.len());
        match (base, offset.checked_sub(below)) {
            (Some(base), None) => base.string_is(offset, name),
            (_, Some(own)) => self.string_is(own, name),
            (None, None) => false,
        }
    }

    fn string_is(&self, offset: usize, name: &str) -> bool {
        let strings = &self.bytes[self.strings.clone()];
        strings
            .get(offset..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Bytes behind the three words that every type has. `None`: a kind that came after us.
fn extra(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0, // pointers, names, qualifiers, functions, floats, tags
        1 | 14 | 17 => 4,          // integers, variables, tags of declarations
        3 => 12,                   // arrays
        STRUCT | 5 | 15 | 19 => 12 * members, // structs, unions, sections, 64-bit enums
        6 | 13 => 8 * members,     // enums, prototypes
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Btf, MAGIC};

    /// Types as words, and strings.
    fn btf(types: &[u32], strings: &[u8]) -> Btf {
        let length = u32::try_from(types.len() * 4).unwrap();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for number in [24, 0, length, length, u32::try_from(strings.len()).unwrap()] {
            bytes.extend(number.to_ne_bytes());
        }
        types.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(strings);
        Btf::parse(bytes).unwrap()
    }

    const KERNEL: &[u8] = b"\0bdev\0number\0int\0";

    fn kernel() -> Btf {
        #[rustfmt::skip]
        let types = [
            14, 1 << 24, 4, 32, // int
            1, 4 << 24 | 1, 8, // struct bdev
            6, 1, 32, // number
        ];
        btf(&types, KERNEL)
    }

    #[test]
    fn a_field_of_the_kernel_is_found() {
        assert_eq!(kernel().offset(None, "bdev", "number"), Some(4));
        assert_eq!(kernel().offset(None, "bdev", "numb"), None);
        assert_eq!(kernel().offset(None, "bde", "number"), None);
        assert_eq!(kernel().offset(None, "int", "number"), None);
    }

    #[test]
    fn a_module_shares_the_strings_of_the_kernel() {
        let own = u32::try_from(KERNEL.len()).unwrap();
        #[rustfmt::skip]
        let types = [
            0, 13 << 24 | 2, 1, 0, 1, 0, 1, // a prototype of two
            own, 1 << 31 | 4 << 24 | 2, 16, // struct snap, with bit fields
            own + 5, 1, 3 << 24 | 17, // flags:3
            1, 1, 64, // bdev
        ];
        let module = btf(&types, b"snap\0flags\0");
        let base = kernel();
        assert_eq!(module.offset(Some(&base), "snap", "bdev"), Some(8));
        assert_eq!(module.offset(Some(&base), "snap", "flags"), Some(2));
        assert_eq!(module.offset(Some(&base), "snap", "number"), None);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_no_description() {
        let whole = kernel().bytes;
        for length in 0..whole.len() {
            assert!(Btf::parse(whole[..length].to_vec()).is_none(), "{length}");
        }
        let unknown = btf(&[0, 31 << 24, 0, 1, 4 << 24, 0], KERNEL);
        assert_eq!(unknown.offset(None, "bdev", "number"), None);
    }

    #[test]
    fn the_kernel_that_runs_here_is_read() {
        let Ok(running) = Btf::of("vmlinux") else {
            return; // it has none
        };
        assert!(
            running
                .offset(None, "block_device", "bd_dev")
                .is_some_and(|at| at > 0)
        );
    }
}
