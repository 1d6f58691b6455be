//! The exit codes of `freezeframe`, one place for all of them.

use crate::device::DeviceError;
use crate::disk::arm::ArmError;
use crate::disk::choose::ChooseError;
use crate::disk::dm::DmError;
use crate::disk::error::DiskError;
use crate::disk::plan::PlanError;
use crate::disk::store::StoreError;
use crate::drain::DrainError;
use crate::failure::{Failure, FailureKind};
use crate::output::OutputError;
use crate::stream::StreamError;
use crate::stream::open::Location;
use crate::tools::ToolError;
use crate::tools::input::InputError;

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something else went wrong.
    Failure = 1,
    /// The command line makes no sense (clap's own code, for most of what can be wrong with it).
    Usage = 2,
    /// No module, or one of another version.
    Module = 3,
    /// A target that is not there or cannot be snapshotted.
    Target = 4,
    /// The output cannot be written.
    Output = 5,
    /// Not root.
    Permission = 6,
    /// A deadline passed.
    Timeout = 7,
    /// Not enough memory for what the targets may force to be copied.
    Room = 8,
    /// A filesystem or a block device that cannot be snapshotted, or a store that cannot be used.
    Disk = 9,
    /// An image is damaged.
    Damaged = 10,
}

/// What the daemon answered; it chose the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DaemonError {
    /// Why.
    pub message: String,
    /// [`Exit`] as a number.
    pub exit: u8,
}

impl Exit {
    const ALL: [Self; 11] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Module,
        Self::Target,
        Self::Output,
        Self::Permission,
        Self::Timeout,
        Self::Room,
        Self::Disk,
        Self::Damaged,
    ];

    /// The code for an error.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        if let Some(DaemonError { exit, .. }) = error.downcast_ref() {
            return Self::ALL
                .into_iter()
                .find(|code| *code as u8 == *exit)
                .unwrap_or(Self::Failure);
        }
        if error.is::<OutputError>() || stream_of(error).is_some_and(is_of_the_output) {
            return Self::Output;
        }
        if let Some(DrainError::Memory { .. }) = error.downcast_ref() {
            return Self::Room;
        }
        if let Some(ChooseError::Output { .. }) = error.downcast_ref() {
            return Self::Output;
        }
        if let Some(exit) = of_image(error).or_else(|| of_disk(error)) {
            return exit;
        }
        match error.downcast_ref::<DeviceError>() {
            Some(DeviceError::NoModule(_) | DeviceError::NotOurs { .. } | DeviceError::WrongAbi { .. }) => {
                Self::Module
            }
            Some(DeviceError::Permission(_)) => Self::Permission,
            Some(DeviceError::Take(Failure { kind, .. })) => match kind {
                FailureKind::Target => Self::Target,
                FailureKind::Permission => Self::Permission,
                FailureKind::Timeout => Self::Timeout,
                FailureKind::Room => Self::Room,
                FailureKind::Disk => Self::Disk,
                FailureKind::Other => Self::Failure,
            },
            Some(DeviceError::Open { .. }) | None => Self::Failure,
        }
    }
}

fn of_image(error: &anyhow::Error) -> Option<Exit> {
    match error.downcast_ref::<ToolError>()? {
        error if error.is_damage() => Some(Exit::Damaged),
        ToolError::Input(InputError::Once(Location::Stdin)) => Some(Exit::Usage),
        ToolError::Output(_) | ToolError::Scratch { .. } => Some(Exit::Output),
        _ => None,
    }
}

fn stream_of(error: &anyhow::Error) -> Option<&StreamError> {
    match error.downcast_ref() {
        Some(DrainError::Stream(stream)) => Some(stream),
        _ => error.downcast_ref(),
    }
}

const fn is_of_the_output(error: &StreamError) -> bool {
    matches!(error, StreamError::Output(_) | StreamError::Object(_))
}

fn of_disk(error: &anyhow::Error) -> Option<Exit> {
    let dm = match error.downcast_ref::<DiskError>() {
        Some(DiskError::Dm(dm)) => Some(dm),
        Some(_) => return Some(Exit::Disk),
        None => error.downcast_ref::<DmError>(),
    };
    match dm {
        Some(DmError::Permission) => Some(Exit::Permission),
        Some(_) => Some(Exit::Disk),
        None => {
            let ours = error.is::<StoreError>()
                || error.is::<ChooseError>()
                || error.is::<PlanError>()
                || error.is::<ArmError>();
            ours.then_some(Exit::Disk)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;
    use crate::archive::read::{Fault, ReadError};
    use crate::device::DeviceError;
    use crate::disk::dm::DmError;
    use crate::disk::error::DiskError;
    use crate::disk::store::StoreError;
    use crate::drain::DrainError;
    use crate::output::OutputError;
    use crate::stream::StreamError;
    use crate::tools::ToolError;

    #[test]
    fn errors_have_their_codes_through_context() {
        let error = anyhow::Error::from(OutputError::Exists("x".into())).context("while draining");
        assert_eq!(Exit::of(&error), Exit::Output);
        let full = || StreamError::Output(OutputError::Stream(std::io::ErrorKind::StorageFull.into()));
        assert_eq!(Exit::of(&full().into()), Exit::Output);
        assert_eq!(Exit::of(&DrainError::Stream(full()).into()), Exit::Output);
        let much = DrainError::Memory { held: 2, limit: 1 };
        assert_eq!(Exit::of(&much.into()), Exit::Room);
        assert_eq!(
            Exit::of(&DeviceError::NoModule("/dev/x".into()).into()),
            Exit::Module
        );
        assert_eq!(
            Exit::of(&DeviceError::Permission("/dev/x".into()).into()),
            Exit::Permission
        );
        assert_eq!(Exit::of(&anyhow::anyhow!("anything")), Exit::Failure);
        assert_eq!(Exit::of(&DiskError::NoSnapshot("1".into()).into()), Exit::Disk);
        assert_eq!(Exit::of(&StoreError::NotOurs("/dev/x".into()).into()), Exit::Disk);
        assert_eq!(
            Exit::of(&DiskError::from(DmError::Permission).into()),
            Exit::Permission
        );
        let image = |fault| {
            let archive = "a.tar".to_owned();
            Exit::of(&ToolError::from(ReadError { archive, fault }).into())
        };
        assert_eq!(image(Fault::Foreign("x")), Exit::Damaged);
        let (found, wanted) = (3, 2);
        assert_eq!(image(Fault::Version { found, wanted }), Exit::Failure);
        let exists = ToolError::from(OutputError::Exists("x".into()));
        assert_eq!(Exit::of(&exists.into()), Exit::Output);
    }
}
