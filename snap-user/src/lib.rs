//! The controller of Freezeframe: drives the kernel module, writes images, exports the timing of every phase.

// They panic where nobody listens: `words` does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

// First: it has the macro `tell!`.
#[macro_use]
pub mod words;

pub mod archive;
pub mod cli;
pub mod device;
pub mod disk;
pub mod doctor;
pub mod drain;
pub mod exit;
pub mod failure;
pub mod how;
pub mod image;
pub mod metrics;
mod octal;
pub mod output;
pub mod processes;
pub mod report;
pub mod room;
pub mod serve;
pub mod stream;
pub mod take;
pub mod tools;
pub mod trace;
