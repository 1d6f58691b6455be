//! What a filesystem sits on, where its device can be switched.

use std::process::{Command, Output};

use super::dm;
use crate::sh;

/// A kind of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody's own linear device.
    Linear,
    /// Our layer over a partition.
    LayerOnPartition,
    /// Our layer over a logical volume.
    LayerOnVolume,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Linear, Self::LayerOnPartition, Self::LayerOnVolume];
}

/// One of them, on a partition. It goes with the [`super::Disk`].
pub struct Base {
    kind: Kind,
    /// Its device.
    pub node: String,
}

/// The layer's device.
const LAYER: &str = "/dev/mapper/ff-data";

/// The volume group.
const GROUP: &str = "group";

impl Base {
    /// Sets it up.
    #[must_use]
    pub fn on(kind: Kind, partition: &str) -> Self {
        let node = match kind {
            Kind::Linear => dm::linear("data", partition),
            Kind::LayerOnPartition => layer(partition),
            Kind::LayerOnVolume => {
                lvm(&format!("pvcreate -q -f {partition}"));
                lvm(&format!("vgcreate -q {GROUP} {partition}"));
                lvm(&format!("lvcreate -q -L 600M -n volume {GROUP}"));
                layer(&format!("/dev/mapper/{GROUP}-volume"))
            }
        };
        Self { kind, node }
    }

    /// Our layer, as it is when it has been set up before.
    #[must_use]
    pub fn found(kind: Kind) -> Self {
        Self {
            kind,
            node: LAYER.to_owned(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.rsplit('/').next().unwrap_or_default()
    }

    /// What an administrator does with logical volumes meanwhile: refreshes them, and makes this one larger.
    pub fn meddle(&self) {
        if self.kind == Kind::LayerOnVolume {
            lvm(&format!("vgchange -q --refresh {GROUP}"));
            lvm(&format!("lvextend -q -l +1 {GROUP}/volume"));
        }
    }
}

/// Our layer `data` over a device.
fn layer(device: &str) -> String {
    sh(&format!("freezeframe layer add {device} --name data"));
    LAYER.to_owned()
}

/// Runs a command of LVM; there is no udev here for it to wait for.
pub fn lvm(command: &str) -> String {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    sh(&format!(
        "{verb} --config 'activation {{ udev_sync=0 udev_rules=0 }}' {rest} 2>&1"
    ))
}

/// Runs `fsfreeze`.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn fsfreeze(option: &str, dir: &str) -> Output {
    Command::new("fsfreeze")
        .args([option, dir])
        .output()
        .expect("fsfreeze runs")
}
