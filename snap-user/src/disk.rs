//! The disk's half: layers below filesystems, stores for what changes, and the life of a snapshot from the switch to its end.
//!
//! A filesystem sits on a device-mapper device (the *top*). A snapshot switches the top from its own table to the target
//! `snapshot`: what lay below stays as it was (the origin), and what is written goes to a slice of the store. None of the
//! commands here needs the kernel module, and each can be killed at any line and called again.

pub mod arm;
pub mod ask;
pub mod blockdev;
pub mod choose;
pub mod cli;
pub mod commit;
pub mod discard;
pub mod dm;
pub mod durable;
pub mod error;
pub mod exceptions;
pub mod extend;
pub mod find;
pub mod half;
pub mod layer;
pub mod live;
pub mod loopdev;
pub mod ls;
pub mod marker;
pub mod mounts;
pub mod openfiles;
pub mod origin;
pub mod plan;
pub mod probe;
pub mod record;
pub mod slot;
pub mod stack;
pub mod store;
pub mod table;
pub mod union;
pub mod watch;
