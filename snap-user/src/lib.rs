//! The controller of Freezeframe: drives the kernel module, writes images, exports the timing of every phase.

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
pub mod output;
pub mod processes;
pub mod report;
pub mod room;
pub mod serve;
pub mod stream;
pub mod take;
pub mod tools;
pub mod trace;
