//! The same in an object store: a real server that runs beside the target.

use std::process::{Command, Output, Stdio};

use guest_tests::controller::{oracle, report};
use guest_tests::device::Device;
use guest_tests::garage::{BUCKET, Garage};
use guest_tests::memory::Cores;
use guest_tests::sh;
use guest_tests::target::Target;

use super::{Folder, assert_words, slow_with, wait_until};

/// Runs `freezeframe` to its end, as a user of that store.
fn freezeframe(garage: &Garage, arguments: &str) -> Output {
    Command::new("freezeframe")
        .args(arguments.split(' '))
        .envs(garage.environment())
        .output()
        .unwrap()
}

/// A command that works, and what it says.
fn run(garage: &Garage, arguments: &str) -> String {
    let output = freezeframe(garage, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_chain_in_a_store_is_verified_and_extracted() {
    let folder = Folder::new("/tmp/bucket");
    let garage = Garage::start();
    sh("age-keygen -o /tmp/bucket/key 2>/dev/null");
    let recipient = sh("age-keygen -y /tmp/bucket/key");
    let sealed = format!("--compress zstd --encrypt-to {}", recipient.trim());
    let mut target = Target::spawn("menagerie", &["unmerged"]);
    let take = format!("take --json --no-daemon --pid {} {sealed}", target.pid());
    let (first, second) = (format!("s3://{BUCKET}/first"), format!("s3://{BUCKET}/second"));
    let whole = report(&freezeframe(&garage, &format!("{take} -o {first}")));
    assert!(target.ask().starts_with("changed"));
    let key = "--identity /tmp/bucket/key";
    let changed = report(&freezeframe(
        &garage,
        &format!("{take} --parent {first} --parent-identity /tmp/bucket/key -o {second}"),
    ));
    assert!(
        changed["archive_bytes"].as_u64() < whole["archive_bytes"].as_u64(),
        "{changed} {whole}"
    );
    assert!(run(&garage, &format!("verify {key} {second}")).contains("sound"));
    assert!(run(&garage, &format!("show {key} {first}")).contains("menagerie"));
    for (image, changes) in [(&first, 0), (&second, 1)] {
        let cores = format!("/tmp/bucket/{changes}");
        sh(&format!("mkdir {cores}"));
        run(&garage, &format!("extract {key} {image} -C {cores}"));
        assert_words(&Cores::at(cores), &target, changes);
    }
    // What is there stays.
    let again = freezeframe(&garage, &format!("{take} -o {first}"));
    let error = String::from_utf8_lossy(&again.stderr);
    assert!(
        !again.status.success() && error.contains("exists already"),
        "{error}"
    );
    run(&garage, &format!("verify {key} {first}"));
    wait_until("both are there", || garage.objects_and_uploads() == (2, 0));
    drop(folder);
}

#[test]
fn what_is_given_up_is_not_in_the_store() {
    let garage = Garage::start();
    let (target, pid) = oracle();
    for signal in ["INT", "TERM"] {
        let image = format!("s3://{BUCKET}/image");
        let child = slow_with(&pid, &["--no-daemon", "-o", &image], garage.environment());
        wait_until("it is under way", || Device::open().open_snapshots() == 1);
        sh(&format!("kill -{signal} {}", child.id()));
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("nothing is left of the image"), "{error}");
        assert_eq!(Device::open().open_snapshots(), 0);
        // Garage counts behind its back.
        wait_until("nothing is left", || garage.objects_and_uploads() == (0, 0));
    }
    target.assert_runs();
}

#[test]
fn a_store_that_dies_leaves_the_target_alone_and_no_image() {
    let mut garage = Garage::start();
    // One that waits: the server wants the processors.
    let mut target = Target::spawn("mover", &["mremap"]);
    let pid = target.pid().to_string();
    let image = format!("s3://{BUCKET}/image");
    // Of 16 MiB, so that there are parts on their way for seconds.
    let child = Command::new("freezeframe")
        .args(["take", "--no-daemon", "--rate", "2M", "--pid", &pid, "-o", &image])
        .envs(garage.environment())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("an upload is there", || garage.objects_and_uploads() == (0, 1));
    garage.kill();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains(&format!("cannot write {image}: ")), "{error}");
    assert_eq!(Device::open().open_snapshots(), 0);
    assert_eq!(target.ask(), "moved 2048\n");
    garage.restart();
    assert_eq!(garage.objects_and_uploads().0, 0);
    let missing = freezeframe(&garage, &format!("verify {image}"));
    assert!(!missing.status.success());
    // And it can be taken again.
    run(&garage, &format!("take --no-daemon --pid {pid} -o {image}"));
    run(&garage, &format!("verify {image}"));
    wait_until("it is there", || garage.objects_and_uploads().0 == 1);
}
