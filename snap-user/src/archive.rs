//! The archive: the container that an image is written to. `docs/image.md` describes the format.

pub mod copies;
pub mod elsewhere;
pub mod head;
pub mod layout;
pub mod manifest;
pub mod members;
pub mod notes;
pub mod order;
pub mod plan;
pub mod process;
pub mod read;
pub mod share;
pub mod state;
pub mod write;

/// The member that comes first.
pub const MANIFEST: &str = "manifest.json";
/// The member that comes last: BLAKE3 of every member before it, as `b3sum` prints them.
pub const SUMS: &str = "BLAKE3SUMS";
/// The manifest may have this size: more is not written, and not read.
pub const MANIFEST_LIMIT: u64 = 64 << 20;
/// The state of a process may have this size.
pub const STATE_LIMIT: u64 = 256 << 20;
/// Headers and notes of a core may take this much.
pub const HEAD_LIMIT: u64 = 1 << 30;
/// Who owns our notes in a core. Their types are none of the known ones: gdb looks at those alone.
pub const NOTE_OWNER: &str = "FREEZEFRAME";
/// The note with the bytes of `process.PID.json`.
pub const NOTE_STATE: u32 = 0x4646_0001;
/// The note that says which pages are not in this core, and where they are.
pub const NOTE_ELSEWHERE: u32 = 0x4646_0002;

/// The member with the state of a process.
#[must_use]
pub fn state_name(pid: i32) -> String {
    format!("process.{pid}.json")
}

/// The member with the core of a process.
#[must_use]
pub fn core_name(pid: i32) -> String {
    format!("core.{pid}")
}
