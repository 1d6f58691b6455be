//! Many descriptors, many signals.

use guest_tests::device::Device;
use guest_tests::image::Image;
use guest_tests::target::Target;
use snap_common::abi;

use crate::take;

#[test]
fn ten_thousand_descriptors() {
    for kind in ["files", "pipes", "sockets"] {
        for count in ["2", "100", "10000"] {
            let target = Target::spawn("hoarder", &[kind, count]);
            for _ in 0..5 {
                let snapshot = take(&target);
                let image = Image::open(&snapshot.file);
                let process = image.process(target.pid());
                let (window, state) = (snapshot.take.window_ns, snapshot.take.state_ns);
                println!("{count} {kind}: the state took {state} ns of {window} ns");
                let fds = image.fds(&process);
                assert!(fds.len() >= count.parse().unwrap(), "{} descriptors", fds.len());
                assert!(fds.is_sorted_by_key(|fd| fd.fd));
            }
        }
    }
}

#[test]
fn what_two_processes_share_is_there_once() {
    let target = Target::spawn("hoarder", &["files", "10"]);
    let other = Target::spawn("hoarder", &["pipes", "10"]);
    let pids = [target.pid(), other.pid()];
    let snapshot = Device::open()
        .take(&pids, 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"));
    let image = Image::open(&snapshot.file);
    let files = pids.map(|pid| -> Vec<abi::ImageFile> {
        let process = image.process(pid);
        image.fds(&process).iter().map(|fd| image.open_file(fd)).collect()
    });
    // Standard error is ours, and both have it.
    let id = |index: usize| files[index][2].id;
    assert_eq!(id(0), id(1));
    assert_ne!(files[0][1].id, files[1][1].id);
}
