//! How a device becomes a store: only one that nobody uses and nothing is on.

use std::fs::File;
use std::path::Path;

use super::{ALIGN, Access, Store, StoreError, open};
use crate::disk::record::{StoreState, new_uuid};
use crate::disk::{blockdev, probe};

/// What should be on a device that is to be a store, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Store,
}

impl Store {
    /// Makes a store of a device that nobody uses and nothing is on, or opens the one that is there and shares the device with
    /// nothing; locked.
    ///
    /// # Errors
    ///
    /// When the device is in use or holds anything else, or was a store with snapshots.
    pub fn format(device: &Path) -> Result<Self, StoreError> {
        Self::format_unless(device, |expected| match expected {
            Expected::Store => alone(device),
            Expected::Nothing => unused(device),
        })
    }

    /// Locked from the first look to the header's being written: of two takes that find a blank device, the second is to find
    /// the store of the first.
    fn format_unless(
        device: &Path,
        refuse: impl FnOnce(Expected) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let file = open(device, Access::Locked)?;
        let same = file.try_clone().map_err(|cause| StoreError::Open {
            device: device.to_owned(),
            cause,
        })?;
        match Self::opened(device, same) {
            Ok(store) => refuse(Expected::Store).map(|()| store),
            Err(StoreError::NotOurs(_)) => {
                refuse(Expected::Nothing)?;
                Self::create(device, file)
            }
            Err(StoreError::Former { device, snapshots }) => {
                refuse(Expected::Nothing)?;
                if snapshots.is_empty() {
                    Self::create(&device, file)
                } else {
                    // The first header may be gone by mistake.
                    Err(StoreError::Former { device, snapshots })
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses where something else has been put on the device that left the header as it is.
    ///
    /// # Errors
    ///
    /// Then, or when it cannot be looked at.
    pub fn alone(&self) -> Result<(), StoreError> {
        alone(&self.device)
    }

    /// Writes an empty store's header, without a look at what is there. Both copies: one that nobody writes over might be there
    /// still when the device is given to something else.
    pub(super) fn create(device: &Path, file: File) -> Result<Self, StoreError> {
        let sectors = blockdev::sectors(&file).map_err(|cause| StoreError::Open {
            device: device.to_owned(),
            cause,
        })?;
        if sectors < 3 * ALIGN {
            return Err(StoreError::TooSmall {
                device: device.to_owned(),
                sectors,
            });
        }
        let mut store = Self {
            device: device.to_owned(),
            file,
            state: StoreState {
                uuid: new_uuid(),
                sectors,
                snapshots: Vec::new(),
            },
            sequence: 0,
        };
        store.write()?;
        store.write()?;
        Ok(store)
    }
}

fn unused(device: &Path) -> Result<(), StoreError> {
    let failed = |cause| StoreError::Open {
        device: device.to_owned(),
        cause,
    };
    if let Some(user) = probe::user_of(device).map_err(failed)? {
        return Err(StoreError::InUse {
            device: device.to_owned(),
            user,
        });
    }
    match probe::content(device).map_err(failed)? {
        None => Ok(()),
        Some(content) => Err(StoreError::Content {
            device: device.to_owned(),
            content,
        }),
    }
}

fn alone(device: &Path) -> Result<(), StoreError> {
    let device = device.to_owned();
    match probe::beside_header(&device) {
        Ok(None) => Ok(()),
        Ok(Some(content)) => Err(StoreError::Shared { device, content }),
        Err(cause) => Err(StoreError::Open { device, cause }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::sync::mpsc;
    use std::thread::{self, sleep};
    use std::time::Duration;

    use super::{Expected, Store, StoreError};
    use crate::disk::record::tests::record;
    use crate::disk::slot::encode;
    use crate::disk::store::tests::{blank, create};

    #[test]
    fn of_two_that_find_a_blank_device_one_makes_the_store() {
        let file = blank(16);
        let path = file.path();
        let (started, waits) = mpsc::channel();
        let (store, second) = thread::scope(|scope| {
            let mut second = None;
            let first = Store::format_unless(path, |expected| {
                assert!(expected == Expected::Nothing);
                second = Some(scope.spawn(move || {
                    started.send(()).unwrap();
                    let found = |expected| {
                        assert!(expected == Expected::Store);
                        Ok(())
                    };
                    Store::format_unless(path, found).map(|store| store.state().uuid.clone())
                }));
                waits.recv().unwrap();
                sleep(Duration::from_millis(100)); // it would have looked by now
                Ok(())
            });
            let uuid = first.unwrap().state().uuid.clone();
            (uuid, second.unwrap().join().unwrap().unwrap())
        });
        assert_eq!(store, second);
    }

    #[test]
    fn what_holds_something_else_is_not_taken() {
        let shared = |_| {
            Err(StoreError::Shared {
                device: "/dev/x".into(),
                content: "ext4".to_owned(),
            })
        };
        let file = blank(16);
        let bytes = || std::fs::read(file.path()).unwrap();
        let before = bytes();
        assert!(Store::format_unless(file.path(), shared).is_err());
        assert_eq!(bytes(), before);
        drop(create(file.path()));
        let before = bytes();
        assert!(Store::format_unless(file.path(), shared).is_err());
        assert_eq!(bytes(), before);
    }

    #[test]
    fn a_new_store_has_both_headers() {
        let file = blank(16);
        let stale = encode(create(file.path()).state(), 9).unwrap();
        file.as_file().write_all_at(&stale, 64 << 10).unwrap();
        let store = create(file.path());
        for other in [0, 64 << 10] {
            let one = blank(16);
            let mut slot = [0; 4096];
            file.as_file().read_exact_at(&mut slot, other).unwrap();
            one.as_file().write_all_at(&slot, 0).unwrap();
            let found = Store::open(one.path()).unwrap();
            assert_eq!(found.state(), store.state());
        }
    }

    #[test]
    fn a_former_store_is_not_written_over_while_it_has_snapshots() {
        let file = blank(16);
        let mut store = create(file.path());
        store.write().unwrap(); // slot 1 is the newer one
        drop(store);
        let forget = |offset| file.as_file().write_all_at(&[0; 4096], offset).unwrap();
        forget(0);
        assert!(matches!(Store::lock(file.path()), Err(StoreError::Former { .. })));
        let mut store = Store::format_unless(file.path(), |_| Ok(())).unwrap();
        store.state_mut().snapshots.push(record("0000000a", &[]));
        store.write().unwrap();
        drop(store);
        forget(0);
        let error = Store::format_unless(file.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("(0000000a)"), "{error}");
        // Whatever else is there is told first: it is not to be zeroed.
        let busy = |_| Err(StoreError::NotOurs("/dev/x".into()));
        assert!(matches!(
            Store::format_unless(file.path(), busy),
            Err(StoreError::NotOurs(_))
        ));
        forget(64 << 10);
        assert!(Store::format_unless(file.path(), |_| Ok(())).is_ok());
    }
}
