//! What goes over the daemon's socket: one JSON line with the request, and beside it the descriptor of the output; JSON lines back,
//! the last of which is the answer. A client that goes away ends its snapshot.

use serde::{Deserialize, Serialize};

use crate::disk::ask::Wish;
use crate::drain::Drain;
use crate::how::How;
use crate::processes::Targets;
use crate::report::Report;
use crate::stream::progress::Snapshot as Far;
use crate::stream::sink::Destination;
use crate::stream::store::Settings;

/// A request fits into one message; more is refused.
pub(super) const REQUEST_BYTES: usize = 64 * 1024;

/// What the client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// A snapshot.
    Take(Box<TakeQuestion>),
    /// The end of one that is being written.
    Cancel(u64),
}

/// A snapshot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TakeQuestion {
    pub(super) targets: Targets,
    pub(super) how: How,
    #[serde(default)]
    pub(super) disk: Wish,
    #[serde(default)]
    pub(super) drain: Drain,
    /// Where the archive goes; an object store is opened by the daemon, of anything else it gets a descriptor.
    #[serde(default)]
    pub(super) destination: Option<Destination>,
    /// The client's access to object stores.
    #[serde(default)]
    pub(super) store: Settings,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The image is being written; more answers follow.
    Progress(Box<Far>),
    /// The snapshot was taken, and the archive is written.
    Report(Box<Report>),
    /// The snapshot was told to end.
    Cancelled,
    /// It failed.
    Error {
        /// Why.
        message: String,
        /// The exit code for it.
        exit: u8,
    },
}
