//! Finds stores and snapshots on the machine's block devices.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::disk::blockdev::{self, Devno};
use crate::disk::dm::DmError;
use crate::disk::error::{DiskError, Doing as _};
use crate::disk::record::UUID_PREFIX;
use crate::disk::slot::{self, Found};
use crate::disk::store::{Store, StoreError};

/// Every store that can be read. What looks like one and cannot be read is told on standard error, once for each.
///
/// # Errors
///
/// When we are not root, or two devices hold the same store.
pub fn stores() -> Result<Vec<Store>, DiskError> {
    if !rustix::process::geteuid().is_root() {
        return Err(DmError::Permission.into()); // else there would seem to be none
    }
    let mut found: Vec<(Devno, Store)> = Vec::new();
    for devno in blockdev::all().doing(|| "list the block devices in /sys/class/block".to_owned())? {
        match read(devno) {
            Some(Ok(store)) => found.push((devno, store)),
            Some(Err(error)) => tell(&error.to_string()),
            None => {}
        }
    }
    // The parts of a mirror or the paths of a multipath device show what the whole shows: the whole counts.
    let devnos: Vec<_> = found
        .iter()
        .map(|(devno, store)| (*devno, store.state().uuid.clone()))
        .collect();
    found.retain(|(devno, store)| {
        !blockdev::holders(*devno)
            .iter()
            .any(|holder| devnos.contains(&(*holder, store.state().uuid.clone())))
    });
    let stores: Vec<_> = found.into_iter().map(|(_, store)| store).collect();
    for (index, store) in stores.iter().enumerate() {
        if let Some(copy) = stores[..index]
            .iter()
            .find(|other| other.state().uuid == store.state().uuid)
        {
            return Err(DiskError::Copies {
                uuid: store.state().uuid.clone(),
                devices: (copy.device().to_owned(), store.device().to_owned()),
            });
        }
    }
    Ok(stores)
}

fn tell(message: &str) {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.iter().any(|old| old == message) {
        tell!("{message}");
        told.push(message.to_owned());
    }
}

/// `None`: no store.
fn read(devno: Devno) -> Option<Result<Store, StoreError>> {
    if blockdev::dm_uuid(devno).is_some_and(|uuid| uuid.starts_with(UUID_PREFIX)) {
        return None; // our own devices hold no stores, and a slice of one might look like one
    }
    let node = blockdev::kernel_node(devno)?;
    let file = File::open(&node).ok()?; // no medium, or gone
    if matches!(slot::read(&file), Ok(Found::Nothing | Found::Former(_)) | Err(_)) {
        return None;
    }
    Some(Store::open(&blockdev::stable_path(devno).unwrap_or(node)))
}

/// The store and the whole ID of the one snapshot whose ID begins so.
///
/// # Errors
///
/// When there is none, or more than one.
pub fn snapshot(prefix: &str) -> Result<(PathBuf, String), DiskError> {
    let stores = stores()?;
    let all = stores.iter().flat_map(|store| {
        store
            .state()
            .snapshots
            .iter()
            .map(|record| (store.device().to_owned(), record.id.clone()))
    });
    choose(all, prefix)
}

fn choose(
    all: impl Iterator<Item = (PathBuf, String)>,
    prefix: &str,
) -> Result<(PathBuf, String), DiskError> {
    let wanted = prefix.to_ascii_lowercase();
    let mut found: Vec<_> = all.filter(|(_, id)| id.starts_with(&wanted)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(DiskError::NoSnapshot(prefix.to_owned())),
        (Some(last), false) => {
            let ids: Vec<_> = found.into_iter().chain([last]).map(|(_, id)| id).collect();
            Err(DiskError::Ambiguous {
                prefix: prefix.to_owned(),
                ids: ids.join(" or "),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::disk::error::DiskError;

    #[test]
    fn any_unambiguous_prefix_names_a_snapshot() {
        let all = || {
            ["1a2b3c4d", "1a9b3c4d", "00c0ffee"]
                .map(|id| ("/dev/x".into(), id.to_owned()))
                .into_iter()
        };
        assert_eq!(choose(all(), "1A2").unwrap().1, "1a2b3c4d");
        assert_eq!(choose(all(), "00c0ffee").unwrap().1, "00c0ffee");
        assert!(matches!(choose(all(), "f"), Err(DiskError::NoSnapshot(_))));
        let error = choose(all(), "1a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "1a may be 1a2b3c4d or 1a9b3c4d; name more digits"
        );
    }
}
