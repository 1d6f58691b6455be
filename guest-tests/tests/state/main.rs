//! What the kernel keeps for processes is in the image as it was at the instant.

mod descriptors;
mod faults;
mod many;
mod narrow;
mod posture;
mod restless;

use std::collections::HashMap;

use guest_tests::device::{Device, Snapshot};
use guest_tests::image::Image;
use guest_tests::target::Target;
use snap_common::abi;

/// A snapshot of a target.
fn take(target: &Target) -> Snapshot {
    let snapshot = Device::open().take(&[target.pid()], 0);
    snapshot.unwrap_or_else(|failed| panic!("{failed:?}"))
}

/// A snapshot of a process that has everything, and what it says that it has.
struct Cupboard {
    target: Target,
    snapshot: Snapshot,
}

impl Cupboard {
    fn new() -> Self {
        let target = Target::spawn("cupboard", &[]);
        let snapshot = take(&target);
        println!(
            "the state took {} ns of {} ns",
            snapshot.take.state_ns, snapshot.take.window_ns
        );
        assert!(snapshot.take.state_ns > 0 && snapshot.take.state_ns < snapshot.take.window_ns);
        Self { target, snapshot }
    }

    fn image(&self) -> Image<'_> {
        Image::open(&self.snapshot.file)
    }

    fn process(&self) -> abi::ImageProcess {
        self.image().process(self.target.pid())
    }

    /// Its threads by name.
    fn threads(&self) -> HashMap<String, abi::ImageThread> {
        let threads = self.image().threads(&self.process()).into_iter();
        threads
            .map(|thread| {
                let name = thread.comm.split(|byte| *byte == 0).next().expect("there is one");
                (String::from_utf8_lossy(name).into_owned(), thread)
            })
            .collect()
    }

    /// The descriptor that it has by this name.
    fn fd(&self, name: &str) -> abi::ImageFd {
        let number = i32::try_from(self.target.at(name)).expect("small");
        let mut fds = self.image().fds(&self.process()).into_iter();
        fds.find(|fd| fd.fd == number)
            .unwrap_or_else(|| panic!("{name}, descriptor {number}, is in the image"))
    }

    fn file(&self, name: &str) -> abi::ImageFile {
        self.image().open_file(&self.fd(name))
    }

    fn text(&self, name: &str) -> String {
        self.image().text(self.file(name).text)
    }
}
