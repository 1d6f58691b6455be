//! Snapshots that nobody took, as the module's descriptor would have them.

use snap_common::abi;

/// A record of nothing but zeros.
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for the records of `abi`, which are made of integers alone.
    unsafe { std::mem::zeroed() }
}

/// The bytes of records.
pub fn bytes_of<T: Copy>(records: &[T]) -> &[u8] {
    // SAFETY: as many bytes as the records have, and those of `abi` have no padding.
    unsafe { std::slice::from_raw_parts(records.as_ptr().cast(), size_of_val(records)) }
}

/// What stands before the data.
pub struct Head {
    /// Takes the tables.
    pub header: abi::ImageHeader,
    tables: Vec<u8>,
}

impl Head {
    /// Of so many data pages.
    pub fn new(data_pages: u64) -> Self {
        let mut header: abi::ImageHeader = zeroed();
        header.magic = abi::IMAGE_MAGIC;
        header.version = abi::IMAGE_VERSION;
        header.page_size = 4096;
        header.data_pages = data_pages;
        Self {
            header,
            tables: Vec::new(),
        }
    }

    /// Puts a table behind those that there are.
    pub fn table<T: Copy>(&mut self, records: &[T]) -> abi::Table {
        let offset = (size_of::<abi::ImageHeader>() + self.tables.len()) as u64;
        self.tables.extend_from_slice(bytes_of(records));
        abi::Table {
            offset,
            count: u32::try_from(records.len()).expect("few"),
            stride: u32::try_from(size_of::<T>()).expect("a record is short"),
        }
    }

    /// The bytes, as long as whole pages.
    pub fn bytes(mut self) -> Vec<u8> {
        let length = size_of::<abi::ImageHeader>() + self.tables.len();
        self.header.data_offset = length.next_multiple_of(4096) as u64;
        let mut bytes = [bytes_of(&[self.header]), &self.tables].concat();
        bytes.resize(length.next_multiple_of(4096), 0);
        bytes
    }
}
