//! What has no fixed length in a snapshot that nobody took: texts and lists, one behind the other.

use snap_common::abi;

/// The bytes of the table `blobs`.
#[derive(Default)]
pub struct Blobs(pub Vec<u8>);

impl Blobs {
    /// Adds one.
    pub fn push(&mut self, bytes: &[u8]) -> abi::Blob {
        let offset = u32::try_from(self.0.len()).expect("few");
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        abi::Blob {
            offset,
            length: u32::try_from(bytes.len()).expect("it is short"),
        }
    }
}
