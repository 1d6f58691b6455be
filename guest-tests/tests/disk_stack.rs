//! What lies on what: filesystems on files of others, overlays, bind mounts, mount namespaces, and the ones that cannot freeze.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use guest_tests::controller::{freezeframe, report};
use guest_tests::disk::base::{Base, Kind as On};
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::held::HeldTake;
use guest_tests::disk::pair::Pair;
use guest_tests::disk::snapshot::{What, assert_says, done, list, refused, said};
use guest_tests::disk::{Disk, dm};
use guest_tests::sectors::{Mode, Writer};
use guest_tests::{rounds_of, sh};
use serde_json::Value;
use snap_common::phase::Phase;

/// A filesystem on a linear device, and another on a loop device on a file of it.
struct Stack {
    // In the order in which they go.
    upper: Mount,
    lower: Mount,
    disk: Disk,
}

impl Stack {
    fn new() -> Self {
        let disk = Disk::split(&[("data", 700), ("key", 800)]);
        let base = Base::on(On::Linear, &disk.part("data"));
        let lower = Kind::Ext4.fresh(&base.node, "lower");
        let file = lower.path("disk.img");
        let device = sh(&format!("truncate -s 350M {file}; losetup -f --show {file}"));
        let upper = Kind::Xfs.fresh(device.trim(), "upper");
        Self { upper, lower, disk }
    }
}

/// The mount points of a report, in the order in which they froze.
fn frozen(report: &Value) -> Vec<String> {
    let filesystems = report["disk"]["filesystems"].as_array().expect("a list");
    let point = |filesystem: &Value| filesystem["mount"].as_str().expect("a path").to_owned();
    filesystems.iter().map(point).collect()
}

/// `take` without a daemon, which must succeed: its report.
fn take(arguments: &[&str]) -> Value {
    let mut all = vec!["take", "--no-daemon", "--json"];
    all.extend(arguments);
    report(&freezeframe(&all))
}

#[test]
fn what_lies_on_a_file_of_another_freezes_first() {
    let stack = Stack::new();
    let (lower, upper) = (stack.lower.dir.as_str(), stack.upper.dir.as_str());
    let mut writers =
        [&stack.lower, &stack.upper].map(|mount| Writer::spawn(&mount.path("writer"), Mode::Buffered, 128));
    for order in [[lower, upper], [upper, lower]] {
        writers.iter_mut().for_each(|writer| writer.goes_on(50));
        let what = What {
            pids: writers.iter().map(|writer| writer.target.pid()).collect(),
            mounts: order.to_vec(),
            ..What::default()
        };
        assert_eq!(frozen(&what.take().report), [upper, lower]);
    }
    // By itself, the lower one may freeze under the upper one's writers.
    writers.iter_mut().for_each(|writer| writer.goes_on(50));
    let what = What {
        mounts: vec![lower],
        ..What::default()
    };
    assert_eq!(frozen(&what.take().report), [lower]);
    writers.iter_mut().for_each(|writer| writer.goes_on(50));
}

#[test]
fn what_has_a_disk_of_its_own_freezes_at_the_same_time() {
    let mut pair = Pair::new();
    let what = What {
        mounts: vec![&pair.one.dir, &pair.other.dir],
        store: &pair.key,
        more: vec!["--deadline", "60000"],
        ..What::default()
    };
    pair.writer.goes_on(50);
    let mut held = HeldTake::at(Phase::FreezeFs, &what);
    let hangs = pair.hangs(&mut held);
    dm::wait_until("the second to freeze", || {
        let before = pair.writer.says();
        sleep(Duration::from_millis(500));
        pair.writer.says() == before
    });
    drop(hangs);
    let output = held.let_go();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(["one", "other"].map(dm::target), ["snapshot"; 2]);
    pair.writer.goes_on(50);
    let id = list()[0]["id"].as_str().expect("it has an id").to_owned();
    done(&["commit", &id]);
    assert_eq!(["one", "other"].map(dm::target), ["linear"; 2]);
    pair.writer.goes_on(50);
}

/// What is read from the upper one while its device is suspended is read from the lower one's device.
#[test]
fn what_lies_on_a_file_of_another_switches_with_it_under_readers() {
    let disk = Disk::split(&[("data", 700), ("key", 1400)]);
    let base = Base::on(On::Linear, &disk.part("data"));
    let lower = Kind::Ext4.fresh(&base.node, "lower");
    let file = lower.path("disk.img");
    let on_file = sh(&format!(
        "truncate -s 350M {file}; losetup -f --show --direct-io=on {file}"
    ));
    let upper = Kind::Ext4.fresh(&dm::linear("upper", on_file.trim()), "upper");
    sh(&format!(
        "dd if=/dev/urandom of={} bs=1M count=16 status=none",
        upper.path("read")
    ));
    let key = disk.part("key");
    let what = What {
        mounts: vec![&upper.dir, &lower.dir],
        store: &key,
        ..What::default()
    };
    for _ in 0..rounds_of(1, 30) {
        let readers = [(); 6].map(|()| Open::reading(&upper.path("read")));
        let snapshot = what.take();
        assert_eq!(frozen(&snapshot.report), [upper.dir.as_str(), lower.dir.as_str()]);
        assert_eq!([base.name(), "upper"].map(dm::target), ["snapshot"; 2]);
        drop(readers);
        snapshot.commit();
    }
}

#[test]
fn a_store_on_what_freezes_is_refused() {
    let stack = Stack::new();
    let file = stack.lower.path("store.img");
    let store = sh(&format!("truncate -s 100M {file}; losetup -f --show {file}"));
    let words = ["lies on", stack.lower.dir.as_str(), "name a device of its own"];
    refused(
        &["take", "--fs", &stack.lower.dir, "--snapblockdev", store.trim()],
        &words,
    );
    let swap = stack.lower.path("swap");
    sh(&format!(
        "dd if=/dev/zero of={swap} bs=1M count=8 status=none; chmod 600 {swap}; mkswap -q {swap}; swapon {swap}"
    ));
    refused(
        &[
            "take",
            "--fs",
            &stack.lower.dir,
            "--snapblockdev",
            &stack.disk.part("key"),
        ],
        &["swap area", &swap, "swapoff"],
    );
    sh(&format!("swapoff {swap}"));
}

#[test]
fn one_filesystem_has_many_mount_points() {
    let stack = Stack::new();
    let dir = &stack.lower.dir;
    sh(&format!(
        "mkdir -p {dir}/folder /mnt/again; mount --bind {dir}/folder /mnt/again"
    ));
    assert_eq!(frozen(&take(&["--fs", dir, "/mnt/again"])), [dir.as_str()]);
    assert_eq!(frozen(&take(&["--fs", "/mnt/again"])), ["/mnt/again"]);
    refused(
        &["take", "--fs", &format!("{dir}/folder")],
        &["no mount point", dir],
    );
    sh("umount /mnt/again");
}

#[test]
fn an_overlay_is_the_filesystem_that_it_writes_to() {
    let stack = Stack::new();
    let dir = &stack.lower.dir;
    sh(&format!(
        "mkdir -p {dir}/u {dir}/w {dir}/l /mnt/merged
         mount -t overlay -o lowerdir={dir}/l,upperdir={dir}/u,workdir={dir}/w overlay /mnt/merged"
    ));
    assert_eq!(frozen(&take(&["--fs", "/mnt/merged"])), [dir.as_str()]);
    let writer = Open::for_writing("/mnt/merged/file");
    let pid = writer.pid();
    assert_eq!(frozen(&take(&["--pid", &pid, "--fs", "auto"])), [dir.as_str()]);
    drop(writer);
    sh("umount /mnt/merged");
}

/// A program that keeps something open; killed when it goes out of scope.
struct Open(Child);

impl Open {
    fn for_writing(path: &str) -> Self {
        let child = Command::new("sh")
            .args(["-c", &format!("exec 3>>{path}; echo ready; exec sleep 1000")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        Self::ready(child)
    }

    /// Reads it over and over, from the disk.
    fn reading(path: &str) -> Self {
        let script =
            format!("echo ready; while :; do dd if={path} of=/dev/null bs=4k iflag=direct 2>/dev/null; done");
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        Self::ready(child)
    }

    /// Waits until it has said so.
    fn ready(child: Child) -> Self {
        let mut open = Self(child);
        let mut line = [0; 6];
        let output = open.0.stdout.as_mut().expect("piped");
        output.read_exact(&mut line).expect("it is ready");
        open
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("and reaped");
    }
}

#[test]
fn auto_finds_what_the_processes_write_to_and_nothing_else() {
    let stack = Stack::new();
    let writer = Open::for_writing(&stack.upper.path("file"));
    let pid = writer.pid();
    assert_eq!(
        frozen(&take(&["--pid", &pid, "--fs", "auto"])),
        [stack.upper.dir.as_str()]
    );
    let elsewhere = Open::for_writing("/tmp/file");
    refused(
        &["take", "--pid", &elsewhere.pid(), "--fs", "auto"],
        &["no file open for writing", "--fs"],
    );
}

/// Its list of mounts shows none that has the file, and the file's path is none of its own.
#[test]
fn auto_finds_what_a_chrooted_process_writes_to() {
    let stack = Stack::new();
    let jail = stack.upper.path("jail");
    sh(&format!(
        "mkdir {jail}
         for program in /bin/sh /bin/sleep; do
             cp -L --parents $program $(ldd $program | grep -o '/[^ )]*') {jail}
         done"
    ));
    let jailed = Command::new("chroot")
        .args([
            &jail,
            "/bin/sh",
            "-c",
            "exec 3>>/file; echo ready; exec /bin/sleep 1000",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("chroot runs");
    let writer = Open::ready(jailed);
    assert_eq!(
        frozen(&take(&["--pid", &writer.pid(), "--fs", "auto"])),
        [stack.upper.dir.as_str()]
    );
}

#[test]
fn what_is_hidden_freezes_by_another_of_its_mounts_or_not_at_all() {
    let stack = Stack::new();
    let dir = &stack.upper.dir;
    let writer = Open::for_writing(&stack.upper.path("file"));
    let pid = writer.pid();
    sh(&format!("mount -t tmpfs over {dir}"));
    refused(
        &["take", "--pid", &pid, "--fs", "auto"],
        &[dir, "mounted over it"],
    );
    sh(&format!(
        "umount {dir}; mkdir -p /mnt/again; mount --bind {dir} /mnt/again; mount -t tmpfs over {dir}"
    ));
    assert_eq!(frozen(&take(&["--pid", &pid, "--fs", "auto"])), ["/mnt/again"]);
    sh(&format!("umount {dir}; umount /mnt/again"));
}

#[test]
fn names_that_are_no_text_are_in_nobodys_way() {
    let stack = Stack::new();
    let dir = &stack.upper.dir;
    let folder = r"/mnt/caf$(printf '\351') x";
    sh(&format!("mkdir -p \"{folder}\"; mount -t tmpfs odd \"{folder}\""));
    assert_eq!(frozen(&take(&["--fs", dir])), [dir.as_str()]);
    let writer = Open::for_writing(&stack.upper.path("file"));
    assert_eq!(
        frozen(&take(&["--pid", &writer.pid(), "--fs", "auto"])),
        [dir.as_str()]
    );
    assert!(list().is_empty());
    sh(&format!("umount \"{folder}\"; rmdir \"{folder}\""));
}

#[test]
fn what_cannot_freeze_is_refused_by_name() {
    let stack = Stack::new();
    let image = stack.lower.path("fuse.img");
    sh(&format!(
        "mkdir -p /mnt/fuse /mnt/memory
         mount -t tmpfs tmpfs /mnt/memory
         truncate -s 20M {image}; mkfs.ext4 -q -F {image}
         modprobe fuse; fuse2fs {image} /mnt/fuse -o fakeroot"
    ));
    refused(
        &["take", "--fs", "/mnt/memory"],
        &["/mnt/memory", "tmpfs", "leave it out"],
    );
    refused(
        &["take", "--fs", "/mnt/fuse"],
        &["/mnt/fuse", "fuse", "a process serves it"],
    );
    refused(&["take", "--fs", "/proc"], &["/proc", "no device"]);
    refused(
        &["take", "--fs", "/nowhere"],
        &["/nowhere", "No such file", "findmnt"],
    );
    sh("umount /mnt/fuse; umount /mnt/memory");
}

#[test]
fn all_is_every_process_and_every_filesystem_with_a_device() {
    let stack = Stack::new();
    // One that only another mount namespace sees.
    let hidden = stack.disk.part("key");
    Kind::Ext4.make(&hidden);
    sh("mkdir -p /mnt/hidden");
    let namespace = Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg(format!(
            "mount {hidden} /mnt/hidden && echo ready && exec sleep 1000"
        ))
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let _namespace = Open::ready(namespace);
    let own = std::process::id().to_string();
    let report = take(&["--all", "--exempt", &own]);
    let found = frozen(&report);
    let place = |point: &str| found.iter().position(|found| found == point);
    assert!(
        place("/").is_some() && place("/mnt/hidden").is_some(),
        "{found:?}"
    );
    assert!(place(&stack.upper.dir) < place(&stack.lower.dir), "{found:?}");
    assert!(report["processes"].as_u64() >= Some(1), "{report}");
    // Left out by any of its mount points; all else is as before.
    let (upper, lower) = (stack.upper.dir.as_str(), stack.lower.dir.as_str());
    let without = frozen(&take(&["--all", "--exempt", &own, upper]));
    assert_eq!(
        found.iter().filter(|point| *point != upper).collect::<Vec<_>>(),
        without.iter().collect::<Vec<_>>()
    );
    let folder = format!("{lower}/lost+found");
    refused(
        &["take", "--all", "--exempt", &folder],
        &["leave out", &folder, "no mount point", lower],
    );
}

/// What a machine has that no layer was put under is left out by name; the image may be written there.
#[test]
fn all_may_leave_out_what_cannot_be_switched() {
    let disk = Disk::split(&[("data", 300), ("usb", 300), ("key", 400)]);
    let base = Base::on(On::LayerOnPartition, &disk.part("data"));
    let data = Kind::Ext4.fresh(&base.node, "data");
    let usb = Kind::Ext4.fresh(&disk.part("usb"), "usb");
    let (own, key, image) = (
        std::process::id().to_string(),
        disk.part("key"),
        usb.path("all.tar"),
    );
    let all = [
        "take",
        "--no-daemon",
        "--json",
        "--all",
        "--snapblockdev",
        &key,
        "--exempt",
        &own,
        "/",
    ];
    refused(
        &all,
        &[&usb.dir, "no device-mapper device", "layer add", "--exempt"],
    );
    let output = ["-o", &image];
    let with = |more: &[&str]| freezeframe(&[&all[..], more, &output].concat());
    assert_says(
        &all,
        &with(&[]),
        &["cannot write the image", &usb.dir, "--exempt"],
    );
    let report = report(&with(&[&usb.dir]));
    assert_eq!(frozen(&report), [data.dir.as_str()]);
    assert_eq!(dm::target(base.name()), "snapshot");
    sh(&format!("tar tf {image} | grep -qx manifest.json"));
    done(&["commit", report["disk"]["id"].as_str().expect("it has an id")]);
}
