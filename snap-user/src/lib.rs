//! The controller of Freezeframe: drives the kernel module, writes images, exports the timing of every phase.

pub mod device;
pub mod failure;
pub mod image;
pub mod output;
pub mod report;
