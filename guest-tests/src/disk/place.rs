//! What most tests want: a filesystem that can be snapshotted, a device for what is written meanwhile, and a writer.

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
    pub mount: Option<Mount>,
    /// Its kind.
    pub kind: Kind,
    /// What it sits on.
    pub base: Base,
    /// The device for what is written meanwhile.
    pub store: String,
    /// What all of it is on.
    pub disk: Disk,
}

impl Place {
    /// On our layer over a partition, with a store that is large enough for everything.
    #[must_use]
    pub fn on_a_layer(kind: Kind) -> Self {
        let disk = Disk::split(&[("data", 900), ("key", 1000)]);
        let (data, key) = (disk.part("data"), disk.part("key"));
        Self::new(disk, base::Kind::LayerOnPartition, &data, kind, key)
    }

    /// On a device, with another as the store.
    #[must_use]
    pub fn new(disk: Disk, on: base::Kind, device: &str, kind: Kind, store: String) -> Self {
        let base = Base::on(on, device);
        Self {
            mount: Some(kind.fresh(&base.node, "data")),
            kind,
            base,
            store,
            disk,
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
