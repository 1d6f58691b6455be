//! Names as text, of whatever bytes they are: the kernel writes a blank as `\040` in its lists, and we likewise what is no text.

use std::fmt::Write as _;

/// Bytes that are no UTF-8 as `\351`, and a backslash that would read like the begin of such a one as `\134`; all else stays. So no two names
/// read the same, and [`unescape`] gives the bytes back.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for (at, letter) in chunk.valid().char_indices() {
            match split(&chunk.valid().as_bytes()[at..]) {
                Some(_) => text.push_str("\\134"),
                None => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text
}

/// The bytes of what the kernel or [`escape`] wrote.
#[must_use]
pub fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        let (byte, after) = split(rest).unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// The byte that an escape at the front stands for, and what is behind it.
const fn split(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [
            b'\\',
            a @ b'0'..=b'3',
            b @ b'0'..=b'7',
            c @ b'0'..=b'7',
            after @ ..,
        ] => Some(((*a - b'0') << 6 | (*b - b'0') << 3 | (*c - b'0'), after)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};

    #[test]
    fn names_are_told_apart_and_come_back() {
        for (bytes, text) in [
            (&b"/tmp/a b"[..], "/tmp/a b"),
            ("/tmp/caf\u{e9}".as_bytes(), "/tmp/caf\u{e9}"),
            (b"caf\xe9", "caf\\351"),
            (b"caf\xe8", "caf\\350"),
            (b"caf\\351", "caf\\134351"),
            (b"system-dm\\x2dcrypt.slice", "system-dm\\x2dcrypt.slice"),
            (b"\\\\351\\", "\\\\134351\\"),
            (b"\\35\xff\\", "\\35\\377\\"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text.as_bytes()), bytes);
        }
    }
}
