//! What the device mapper did not do, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What the device mapper did not do.
#[derive(Debug, thiserror::Error)]
pub enum DmError {
    /// There is no device mapper.
    #[error("cannot use the device mapper: {0}; load it with `modprobe dm-mod`")]
    NoDeviceMapper(String),
    /// Not root.
    #[error("cannot look at block devices: permission denied; run as root")]
    Permission,
    /// No device of that name.
    #[error("there is no dm device {0}; see `dmsetup ls`")]
    Missing(String),
    /// A name that it does not take.
    #[error("{0} is no name for a dm device; it may have 127 ASCII characters")]
    Name(String),
    /// The kernel refused.
    #[error("cannot {action} the dm device {name}: {cause}; {remedy}")]
    Call {
        /// What was being done.
        action: Action,
        /// The device.
        name: String,
        /// What the kernel said.
        cause: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Its node cannot be made.
    #[error("cannot make the node {}: {cause}; check that /dev is a devtmpfs", path.display())]
    Node {
        /// The node.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A switch that the kernel called done, and was not.
    #[error(
        "the dm device {name} has the table `{found}` after the switch, not `{expected}`; somebody else changes it (LVM, another tool): see `dmesg`"
    )]
    NotSwitched {
        /// The device.
        name: String,
        /// What it should have.
        expected: String,
        /// What it has.
        found: String,
    },
}

/// What is asked of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make it.
    Create,
    /// Look at it.
    Query,
    /// Put a table into its inactive slot.
    Load,
    /// Empty its inactive slot.
    Clear,
    /// Hold its I/O back.
    Suspend,
    /// Let its I/O go, on the table of the inactive slot where there is one.
    Resume,
    /// Make it go away.
    Remove,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Create => "create",
            Self::Query => "look at",
            Self::Load => "load a table into",
            Self::Clear => "clear the inactive table of",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Remove => "remove",
        })
    }
}

impl Action {
    pub(super) fn remedy(self, cause: &io::Error) -> &'static str {
        match (self, cause.raw_os_error()) {
            (_, Some(libc::EPERM | libc::EACCES)) => "run as root",
            (Self::Create, Some(libc::EBUSY)) => {
                "a device of that name or uuid exists (`dmsetup ls`); remove it first"
            }
            (Self::Load, Some(libc::EBUSY)) => {
                "a device in the table is mounted or otherwise in use (`lsblk`)"
            }
            (Self::Remove, Some(libc::EBUSY)) => {
                "it is open: unmount what is on it, and see `dmsetup info` and `lsblk`"
            }
            (Self::Suspend | Self::Resume, Some(libc::EBUSY)) => {
                "somebody else has frozen its filesystem: thaw it with `fsfreeze -u`"
            }
            _ => "`dmesg` may tell more",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::Action;

    #[test]
    fn a_refusal_says_what_to_do() {
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        assert!(Action::Remove.remedy(&busy).contains("unmount"));
        assert!(Action::Resume.remedy(&busy).contains("fsfreeze -u"));
    }
}
