//! What most tests want: a filesystem that can be snapshotted, a device for what is written meanwhile, and writers.

use super::base::{self, Base};
use super::fs::{Kind, Mount};
use super::snapshot::What;
use super::{Disk, dm};
use crate::sectors::{Mode, Writer};

/// How many blocks its writer writes.
const BLOCKS: u64 = 64;

/// A filesystem on a device that can be switched.
pub struct Place {
    /// Mounted, until it is unmounted.
    mount: Option<Mount>,
    /// Its kind.
    pub kind: Kind,
    /// What it sits on.
    pub base: Base,
    /// The device for what is written meanwhile.
    pub store: String,
}

impl Place {
    /// On the part `data` of a disk, with the part `key` for what is written meanwhile.
    #[must_use]
    pub fn new(disk: &Disk, on: base::Kind, kind: Kind) -> Self {
        Self::on(Base::on(on, &disk.part("data")), kind, disk.part("key"))
    }

    /// On a base.
    #[must_use]
    pub fn on(base: Base, kind: Kind, store: String) -> Self {
        Self {
            mount: Some(kind.fresh(&base.node, "data")),
            kind,
            base,
            store,
        }
    }

    /// As it was before the guest was reset, not mounted yet.
    #[must_use]
    pub fn found(disk: &Disk, base: Base, kind: Kind) -> Self {
        Self {
            mount: None,
            kind,
            base,
            store: disk.part("key"),
        }
    }

    /// Its mount.
    ///
    /// # Panics
    ///
    /// When it is unmounted.
    #[must_use]
    pub fn mounted(&self) -> &Mount {
        self.mount.as_ref().expect("it is mounted")
    }

    /// Unmounts it.
    pub fn unmount(&mut self) {
        self.mount = None;
    }

    /// Mounts it again.
    pub fn remount(&mut self) {
        self.mount = Some(Mount::new(&self.base.node, "data"));
    }

    /// A writer on a file of its own.
    #[must_use]
    pub fn writer(&self, mode: Mode) -> Writer {
        Writer::spawn(&self.mounted().path(mode.name()), mode, BLOCKS)
    }

    /// What to snapshot: this, and processes.
    #[must_use]
    pub fn what(&self, pids: &[i32]) -> What<'_> {
        What {
            pids: pids.to_vec(),
            mounts: vec![&self.mounted().dir],
            store: &self.store,
            ..What::default()
        }
    }

    /// Whatever was done meanwhile: nobody hangs, the filesystem is writable, and what was written is there.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub fn assert_well(&mut self, writer: &mut Writer) {
        dm::assert_all_live();
        writer.goes_on(20);
        self.mounted().assert_writable();
    }

    /// Stops the writer, and looks at what it wrote, as it is on the disk, and at the filesystem.
    ///
    /// # Panics
    ///
    /// When anything is not as it was written.
    pub fn assert_all_there(&mut self, mut writer: Writer) {
        let bounds = writer.stop();
        let mode = writer.mode;
        drop(writer);
        self.mounted().again();
        let wrong = bounds.wrong(&self.mounted().open(mode.name()), mode.grain());
        assert_eq!(wrong, [""; 0]);
        self.unmount();
        self.kind.check(&self.base.node);
        self.remount();
    }
}
