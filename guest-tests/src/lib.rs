//! What the tests in the guest share: the device, an image reader of their own (independent of the controller's, so
//! that the two check each other), the module's fault injection, and the processes that are snapshotted.

pub mod device;
pub mod image;
pub mod knob;
pub mod target;

/// How many times a test repeats itself: more under `cargo xtask soak`.
#[must_use]
pub fn rounds(usually: usize) -> usize {
    if std::env::var_os("FF_SOAK").is_some() {
        usually * 10
    } else {
        usually
    }
}
