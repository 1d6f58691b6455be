//! Takes that were cut off: the record says `armed`, and its slices tell whether the tops had been switched.
//!
//! One slice tells for all, for the tops of a take are switched together: whichever is left on its old table would be of
//! another time than the others as soon as it is written to, and a discard would take only some of them back.

use std::io;

use crate::disk::exceptions::Content;
use crate::disk::record::{AtShutdown, DeviceRecord, Record, State};

/// Whether a take was cut off behind the switch, and anything was written since. A slice that cannot be read is as good as full:
/// better no start than a start without it.
pub fn switched(record: &Record, look: impl Fn(&DeviceRecord) -> io::Result<Content>) -> bool {
    let written = |device| !matches!(look(device), Ok(Content::Nothing));
    record.state == State::Armed && record.devices.iter().any(written)
}

/// Makes it the snapshot that it is. It survives a shutdown, as one whose take has not ended: nobody knows that it is there.
pub fn adopt(record: &mut Record) {
    record.state = State::Active;
    record.at_shutdown = AtShutdown::Keep;
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{adopt, switched};
    use crate::disk::exceptions::Content;
    use crate::disk::record::tests::record;
    use crate::disk::record::{AtShutdown, State};

    #[test]
    fn one_slice_tells_for_all() {
        let mut record = record("00c0ffee", &[]);
        record.state = State::Armed;
        let mut other = record.devices[0].clone();
        other.top = "ff-y".to_owned();
        record.devices.push(other);
        assert!(!switched(&record, |_| Ok(Content::Nothing)));
        assert!(switched(&record, |device| Ok(match device.top.as_str() {
            "ff-y" => Content::Changes,
            _ => Content::Nothing,
        })));
        assert!(switched(&record, |_| Err(io::ErrorKind::NotFound.into())));
        adopt(&mut record);
        assert_eq!(
            (record.state, record.at_shutdown),
            (State::Active, AtShutdown::Keep)
        );
        // It is not in question any more.
        assert!(!switched(&record, |_| Ok(Content::Changes)));
    }
}
