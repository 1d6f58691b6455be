//! Processes that store into mapped files of a filesystem that freezes: their page faults wait for it, but not with the locks that the
//! stop needs.

use guest_tests::disk::fs::Kind;
use guest_tests::disk::snapshot::{What, said};
use guest_tests::disk::{Disk, base};
use guest_tests::knob::Knob;
use guest_tests::rounds;
use guest_tests::sectors::{Mode, Writer};

/// Takes of processes that store into mapped files, and of their filesystem: what each of them said, where it failed.
fn failures(kind: Kind, takes: usize, deadline: &str) -> Vec<String> {
    let disk = Disk::split(&[("data", 500)]);
    let base = base::Base::on(base::Kind::Linear, &disk.part("data"));
    let mount = kind.fresh(&base.node, "data");
    let mut writers = ["one", "two"].map(|name| Writer::spawn(&mount.path(name), Mode::Mapped, 256));
    let what = What {
        pids: writers.iter().map(|writer| writer.target.pid()).collect(),
        mounts: vec![&mount.dir],
        more: vec!["--deadline", deadline],
        ..What::default()
    };
    let mut failures = Vec::new();
    for _ in 0..takes {
        writers.iter_mut().for_each(|writer| writer.goes_on(20));
        if let Err(output) = what.try_take() {
            failures.push(said(&output));
        }
    }
    // Whatever came of it, they go on, and so does the filesystem.
    writers.iter_mut().for_each(|writer| writer.goes_on(20));
    mount.assert_writable();
    failures
}

#[test]
fn stores_into_mapped_files_of_ext4_do_not_hold_up_the_stop() {
    assert_eq!(failures(Kind::Ext4, rounds(8), "5000"), [""; 0]);
}

#[test]
fn stores_into_mapped_files_of_xfs_do_not_hold_up_the_stop() {
    assert_eq!(failures(Kind::Xfs, rounds(8), "5000"), [""; 0]);
}

#[test]
fn without_the_gate_they_do_and_all_is_thawed() {
    let _knob = Knob::set("test_no_gate", 1);
    let failures = failures(Kind::Ext4, 4, "1000");
    assert!(!failures.is_empty(), "the stop had its locks in spite of it");
}
