//! What a take is refused for when its filesystems are known.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use snap_common::abi;

use super::kinds::{Hold, beneath};
use super::seen::of_everyone;
use super::{ChooseError, Chosen};
use crate::disk::blockdev::Devno;
use crate::disk::{mounts, stack};

/// Refuses more filesystems and devices than one call of the module takes. `unions`: how many filesystems there are besides.
///
/// # Errors
///
/// When there are more.
pub fn too_many(chosen: &[Chosen], unions: usize) -> Result<(), ChooseError> {
    let devices = chosen.iter().map(|chosen| chosen.devices.len()).sum();
    at_most(chosen.len() + unions, "filesystems", abi::MAX_FILESYSTEMS)?;
    at_most(devices, "devices of filesystems", abi::MAX_SWITCHES)
}

fn at_most(count: usize, what: &'static str, most: u32) -> Result<(), ChooseError> {
    if count > most as usize {
        return Err(ChooseError::TooMany { count, what, most });
    }
    Ok(())
}

/// Refuses to write an image to a filesystem whose changes will be discarded, and the image with them.
///
/// # Errors
///
/// When it lies on one of them, or on a file of one.
pub fn output_on(chosen: &[Chosen], output: Option<&File>) -> Result<(), ChooseError> {
    let Some(output) = output else { return Ok(()) };
    let mounts = mounts::mounts().map_err(ChooseError::Mounts)?;
    let id = mounts::id_of(output).map_err(ChooseError::Mounts)?;
    // A daemon's client may have opened it where only it sees.
    let seen = of_everyone(&mounts);
    // By the mount's number: a file on btrfs has that of its subvolume.
    let (on, devices) = match seen.iter().find(|seen| seen.mount.id == id) {
        Some(seen) => {
            let mount = beneath(&seen.mount, &mounts);
            (mount.devno, stack::devices_of(mount))
        }
        None => {
            let on = Devno::from(output.metadata().map_err(ChooseError::Mounts)?.dev());
            (on, vec![on])
        }
    };
    let below = devices
        .into_iter()
        .flat_map(|device| stack::filesystems_below(device, &mounts));
    let lost: Vec<_> = below.map(|mount| mount.devno).chain([on]).collect();
    // What is read-only for the instant keeps what is written to it.
    let mut switched = chosen.iter().filter(|chosen| chosen.hold == Hold::Freeze);
    match switched.find(|chosen| lost.contains(&chosen.mount.devno)) {
        Some(chosen) => Err(ChooseError::Output {
            point: chosen.mount.point.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{ChooseError, Chosen, Hold, at_most, output_on};
    use crate::disk::mounts::{id_of, mounts};

    #[test]
    fn an_image_is_on_what_is_discarded_whatever_number_files_have_there() {
        let output = File::open("/proc/version").unwrap();
        let id = id_of(&output).unwrap();
        let mut mounts = mounts().unwrap();
        mounts.retain(|mount| mount.id == id);
        let mut chosen = [Chosen {
            mount: mounts.remove(0),
            devices: Vec::new(),
            // As on btrfs: it has another number than the output has.
            fd: File::open("/dev/null").unwrap().into(),
            hold: Hold::Freeze,
            together: false,
        }];
        assert!(matches!(
            output_on(&chosen, Some(&output)),
            Err(ChooseError::Output { .. })
        ));
        assert!(output_on(&chosen, None).is_ok());
        chosen[0].hold = Hold::ReadOnly;
        assert!(output_on(&chosen, Some(&output)).is_ok());
    }

    #[test]
    fn more_than_the_module_takes_are_refused_with_a_way_out() {
        assert!(at_most(256, "filesystems", 256).is_ok());
        let error = at_most(257, "filesystems", 256).unwrap_err().to_string();
        assert!(
            error.contains("257") && error.contains("--exempt MOUNT"),
            "{error}"
        );
    }
}
