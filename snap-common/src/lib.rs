//! The types that the kernel module, the BPF programs and the controller share.
//!
//! - [`abi`]: the mirror of `kmod/freezeframe.h`, checked against it field by field by `tests/header.rs`;
//! - [`phase`]: the timed steps of a snapshot, one enum for all three;
//! - [`trace`]: the records that the BPF programs hand to the controller;
//! - [`hist`]: the buckets of the histograms that the BPF programs fill;
//! - [`store`]: what they count of the stores of snapshots on disk.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod hist;
pub mod phase;
pub mod store;
pub mod trace;
