//! What can be wrong with an archive.

use std::borrow::Cow;
use std::io;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", plain(&format!("{archive}: {fault}")))]
pub struct ReadError {
    /// The archive, as whoever asked for it calls it.
    pub archive: String,
    /// What is wrong.
    pub fault: Fault,
}

/// Text from an archive, such that a terminal takes it for nothing but text.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            plain.extend(letter.escape_default());
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// The same, of text in lines.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(plain).collect();
    lines.join("\n")
}

/// What is wrong with an archive, or with reading it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes could not be had.
    #[error("cannot be read at byte {offset}: {cause}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        cause: io::Error,
    },
    /// What it is compressed or encrypted with is broken.
    #[error(
        "damaged or truncated in what it is compressed or encrypted with, behind byte {offset} of its content: {cause}"
    )]
    Wrapping {
        /// How much came out of it.
        offset: u64,
        /// What its decoder said.
        cause: io::Error,
    },
    /// It ends too early.
    #[error(
        "truncated: it ends at byte {offset}, in {place}; get a whole copy of it, or take the snapshot again"
    )]
    Truncated {
        /// Where.
        offset: u64,
        /// The member that is not whole.
        place: String,
    },
    /// It is something else.
    #[error("no archive of freezeframe: {0}")]
    Foreign(&'static str),
    /// What is in it makes no sense.
    #[error("damaged: {place}, at byte {offset}: {what}; do not trust it, get another copy")]
    Damaged {
        /// The member.
        place: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: Cow<'static, str>,
    },
    /// It was made by another release.
    #[error(
        "it has manifest_version {found}, this freezeframe reads {wanted}; use a release that reads {found}"
    )]
    Version {
        /// The archive's.
        found: u64,
        /// Ours.
        wanted: u32,
    },
    /// It is larger than anything that is sensible.
    #[error("{place}, at byte {offset}, is larger than {limit} bytes, which is the most that is read of it")]
    Limit {
        /// The member.
        place: String,
        /// Where.
        offset: u64,
        /// The limit.
        limit: u64,
    },
}

impl Fault {
    /// Whether the archive itself is at fault, and not whoever had to deliver it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Version { .. } => false,
            Self::Wrapping { .. }
            | Self::Truncated { .. }
            | Self::Foreign(_)
            | Self::Damaged { .. }
            | Self::Limit { .. } => true,
        }
    }
}
