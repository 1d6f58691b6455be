//! What has no freezing of its own is read-only for the instant, with the descriptors that are open for writing, and afterwards as it
//! was; and unions: a filesystem that stays as it is, with an overlay over it.

use std::fs;
use std::path::Path;

use guest_tests::controller::{freezeframe, oracle};
use guest_tests::disk::dm::wait_until;
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::held::{HeldTake, PHASES};
use guest_tests::disk::snapshot::{What, assert_says, done, refused, said};
use guest_tests::disk::{Disk, MOUNTS};
use guest_tests::knob::Knob;
use guest_tests::sh;
use guest_tests::target::Target;
use serde_json::Value;
use snap_common::phase::Phase;

const EBADF: &str = "9";
const EACCES: &str = "13";
const ETXTBSY: &str = "26";
const EROFS: &str = "30";

/// In which descriptors are downgraded when a phase of them begins.
const FROZEN: [Phase; 4] = [Phase::FreezeTasks, Phase::Arm, Phase::ThawTasks, Phase::ThawFs];

/// A filesystem without a device, unmounted when it goes out of scope.
struct Place(String);

impl Place {
    fn tmpfs(name: &str) -> Self {
        let dir = format!("{MOUNTS}/{name}");
        sh(&format!("mkdir -p {dir}; mount -t tmpfs {name} {dir}"));
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    fn scribe(&self, files: &[&str]) -> Scribe {
        let paths: Vec<_> = files.iter().map(|name| self.path(name)).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        Scribe(Target::spawn("scribe", &paths))
    }

    fn what(&self) -> What<'_> {
        What {
            mounts: vec![&self.0],
            more: vec!["--unfreezable", "remount-ro", "--deadline", "60000"],
            ..What::default()
        }
    }

    /// Nobody has it open by now: every counter of writers is 0, and it goes as it always did.
    fn assert_goes(self) {
        sh(&format!(
            "mkdir -p {0}/folder; touch {0}/folder/file; rm -r {0}/folder
             mount -o remount,ro {0}
             if touch {0}/file 2>/dev/null; then exit 1; fi
             mount -o remount,rw {0}
             touch {0}/file
             umount {0}",
            self.0
        ));
        std::mem::forget(self);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that fails has more to say than this.
        let _ = std::process::Command::new("umount")
            .args(["-l", &self.0])
            .output();
    }
}

/// A running `scribe`.
struct Scribe(Target);

impl Scribe {
    fn tell(&mut self, command: &str) -> String {
        self.0.tell(command).trim().to_owned()
    }

    fn assert_writes(&mut self) {
        for command in ["write 0", "pwrite 0", "map 0", "store 0"] {
            assert_eq!(self.tell(command), "0", "{command}");
        }
    }

    fn assert_downgraded(&mut self) {
        for (command, error) in [
            ("write 0", EBADF),
            ("pwrite 0", EBADF),
            ("map 0", EACCES),
            ("read 0", "0"),
        ] {
            assert_eq!(self.tell(command), error, "{command}");
        }
    }
}

/// Whether a filesystem does not become read-only, because somebody writes to it.
fn is_kept_writable(dir: &str) -> bool {
    let remount = ["-o", "remount,ro", dir];
    let output = std::process::Command::new("mount")
        .args(remount)
        .output()
        .unwrap();
    !output.status.success()
}

fn read_only(output: &Value) -> &Value {
    &output["disk"]["filesystems"][0]["read_only"]
}

#[test]
fn descriptors_lose_their_write_access_for_the_instant_and_no_longer() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file", "other"]);
    sh(&format!("cp /bin/true {}", place.path("program")));
    let mut of_program = place.scribe(&["program"]);
    let held = HeldTake::at(Phase::FreezeTasks, &place.what());
    scribe.assert_downgraded();
    assert_eq!(scribe.tell(&format!("open {}", place.path("file"))), EROFS);
    // The file still counts as one that is written to.
    assert_eq!(scribe.tell(&format!("run {}", place.path("program"))), ETXTBSY);
    assert_eq!(scribe.tell("close 1"), "0");
    let output = held.let_go();
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read_only(&report)["downgraded"], 3, "{report}");
    assert_eq!(read_only(&report)["unseen"], 0, "{report}");
    let writers = read_only(&report)["writers"].as_array().unwrap();
    let pid = scribe.0.pid();
    let of_scribe = |writer: &&Value| writer["pid"] == pid && writer["path"] == place.path("file").as_str();
    let writer = writers.iter().find(of_scribe).unwrap();
    assert_eq!(writer["name"], "scribe");
    assert!(writer["fd"].as_i64().unwrap() > 2);
    scribe.assert_writes();
    assert_eq!(of_program.tell("write 0"), "0");
    assert_eq!(scribe.tell(&format!("run {}", place.path("program"))), ETXTBSY);
    drop(of_program);
    assert_eq!(scribe.tell(&format!("open {}", place.path("file"))), "0");
    assert!(is_kept_writable(&place.0));
    drop(scribe);
    place.assert_goes();
}

#[test]
fn without_it_a_new_mapping_is_stored_through_in_the_instant() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    let _knob = Knob::set("test_no_readonly", 1);
    let held = HeldTake::at(Phase::FreezeTasks, &place.what());
    let before = fs::read(place.path("file")).unwrap();
    assert_eq!(scribe.tell("map 0"), "0");
    assert_eq!(scribe.tell("store 0"), "0");
    assert_ne!(
        fs::read(place.path("file")).unwrap(),
        before,
        "the check sees stores"
    );
    assert!(held.let_go().status.success());
}

#[test]
fn mappings_from_before_are_counted() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file", "other"]);
    for command in ["map 0", "map 1", "close 1"] {
        assert_eq!(scribe.tell(command), "0");
    }
    let snapshot = place.what().take();
    let read_only = read_only(&snapshot.report);
    assert_eq!(read_only["mappings"], 2, "{read_only}");
    assert_eq!(read_only["downgraded"], 1, "{read_only}");
    assert_eq!(read_only["unseen"], 1, "{read_only}");
    scribe.assert_writes();
    drop(scribe);
    place.assert_goes();
}

#[test]
fn whoever_dies_or_fails_all_is_as_before() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    for phase in PHASES {
        if phase == Phase::SwitchFs {
            continue; // there is nothing to switch
        }
        let held = HeldTake::at(phase, &place.what());
        if FROZEN.contains(&phase) {
            scribe.assert_downgraded();
        }
        held.kill();
        wait_until("the descriptor to be as it was", || scribe.tell("write 0") == "0");
        scribe.assert_writes();
        let _knob = Knob::set("test_fail_phase", phase as i32);
        assert!(place.what().try_take().is_err(), "{}", phase.name());
        scribe.assert_writes();
    }
    assert!(is_kept_writable(&place.0));
    drop(scribe);
    place.assert_goes();
}

#[test]
fn a_take_that_outlives_its_deadline_gives_all_back() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    let what = What {
        more: vec!["--unfreezable", "remount-ro", "--deadline", "500"],
        ..place.what()
    };
    let held = HeldTake::at(Phase::FreezeTasks, &what);
    scribe.assert_downgraded();
    wait_until("the deadline", || scribe.tell("write 0") == "0");
    scribe.assert_writes();
    let output = held.let_go();
    assert_says(&["take"], &output, &["deadline"]);
    drop(scribe);
    place.assert_goes();
}

#[test]
fn the_files_of_those_that_stand_still_are_given_back_too() {
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    let mut what = place.what();
    what.pids = vec![scribe.0.pid()];
    for _ in 0..guest_tests::rounds(10) {
        let snapshot = what.take();
        assert_eq!(read_only(&snapshot.report)["downgraded"], 1);
        scribe.assert_writes();
    }
    drop(scribe);
    place.assert_goes();
}

#[test]
fn many_descriptors_are_counted_and_some_named() {
    let place = Place::tmpfs("shm");
    let names: Vec<_> = (0..900).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut scribe = place.scribe(&names);
    let snapshot = place.what().take();
    let read_only = read_only(&snapshot.report);
    assert_eq!(read_only["downgraded"], 900);
    assert_eq!(read_only["writers"].as_array().unwrap().len(), 50);
    assert_eq!(read_only["more_writers"], 850);
    assert_eq!(scribe.tell("write 899"), "0");
    drop(scribe);
    place.assert_goes();
}

#[test]
fn an_overlay_on_a_tmpfs_is_read_only_with_it() {
    let upper = Place::tmpfs("upper");
    let over = Place(format!("{MOUNTS}/over"));
    sh(&format!(
        "mkdir -p {0}/l {0}/u {0}/w {1}; echo text >{0}/l/file
         mount -t overlay -o lowerdir={0}/l,upperdir={0}/u,workdir={0}/w over {1}",
        upper.0, over.0
    ));
    let mut scribe = over.scribe(&["file"]);
    let held = HeldTake::at(Phase::FreezeTasks, &over.what());
    scribe.assert_downgraded();
    let output = held.let_go();
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<_> = report["disk"]["filesystems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(kinds, ["overlay", "tmpfs"]);
    scribe.assert_writes();
    drop(scribe);
    over.assert_goes();
    upper.assert_goes();
}

#[test]
fn what_a_process_serves_is_read_only_too() {
    let fuse = Place(format!("{MOUNTS}/fuse"));
    sh(&format!(
        "mkdir -p {0}; truncate -s 32M /tmp/disk-fuse.img; mkfs.ext4 -q -F /tmp/disk-fuse.img
         fuse2fs -o rw,fakeroot /tmp/disk-fuse.img {0}",
        fuse.0
    ));
    let mut scribe = fuse.scribe(&["file"]);
    for command in ["write 0", "pwrite 0"] {
        assert_eq!(scribe.tell(command), "0");
    }
    let held = HeldTake::at(Phase::FreezeTasks, &fuse.what());
    assert_eq!(scribe.tell("write 0"), EBADF);
    assert_eq!(scribe.tell("read 0"), "0");
    assert!(held.let_go().status.success());
    assert_eq!(scribe.tell("write 0"), "0");
    // With its server among those that stand still.
    let mut what = fuse.what();
    what.pids = vec![sh("pidof fuse2fs").trim().parse().unwrap()];
    let _snapshot = what.take();
    assert_eq!(scribe.tell("write 0"), "0");
    drop(scribe);
    sh(&format!("umount {}", fuse.0));
    std::mem::forget(fuse);
}

#[test]
fn what_cannot_be_read_only_is_refused() {
    let place = Place::tmpfs("shm");
    refused(
        &["take", "--no-daemon", "--fs", &place.0],
        &["cannot freeze", "tmpfs", "--unfreezable remount-ro"],
    );
    for dir in ["/proc", "/sys", "/dev"] {
        refused(
            &["take", "--no-daemon", "--fs", dir, "--unfreezable", "remount-ro"],
            &["cannot freeze", dir, "leave it out"],
        );
    }
    place.assert_goes();
}

// ---- unions ----------------------------------------------------------------

/// An ext4 with a file.
fn ext4() -> (Disk, Mount) {
    let disk = Disk::split(&[("data", 300)]);
    let mount = Kind::Ext4.fresh(&disk.part("data"), "data");
    sh(&format!(
        "echo old >{0}/file; mkdir {0}/folder; chmod 1777 {0}",
        mount.dir
    ));
    (disk, mount)
}

fn unions() -> Vec<Value> {
    let text = done(&["ls", "--json", "--interval", "1"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    json["unions"].as_array().unwrap().clone()
}

fn union(dir: &str, more: &[&str]) -> Result<Value, std::process::Output> {
    let mut arguments = vec!["take", "--no-daemon", "--json", "--union", dir];
    arguments.extend(more);
    let output = freezeframe(&arguments);
    if !output.status.success() {
        return Err(output);
    }
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(report["disk"]["unions"][0].clone())
}

/// Nothing is left of any union, and the filesystem is as it was.
fn assert_no_union(mount: &Mount) {
    assert!(unions().is_empty());
    assert!(!sh("cat /proc/mounts").contains("freezeframe"));
    let left = fs::read_dir("/run/freezeframe").into_iter().flatten().count();
    assert_eq!(left, 0, "{}", sh("ls -R /run/freezeframe"));
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "old\n");
    mount.assert_writable();
}

#[test]
fn a_union_takes_what_is_written_and_discard_takes_it_back() {
    let (_disk, mount) = ext4();
    let taken = union(&mount.dir, &[]).unwrap_or_else(|output| panic!("{}", said(&output)));
    let id = taken["id"].as_str().unwrap();
    assert_eq!(taken["mount"], mount.dir.as_str());
    sh(&format!(
        "test \"$(stat -c %a {0})\" = 1777
         echo new >{0}/file; echo more >{0}/folder/more; rm -r {0}/lost+found
         dd if=/dev/zero of={0}/large bs=1M count=4 status=none",
        mount.dir
    ));
    let listed = &unions()[0];
    assert_eq!(listed["id"], id);
    assert_eq!(
        (&listed["kind"], &listed["state"]),
        (&"union".into(), &"active".into())
    );
    assert!(
        listed["filesystems"][0]["used_bytes"].as_u64().unwrap() >= 4 << 20,
        "{listed}"
    );
    assert!(done(&["ls", "--interval", "1"]).contains("in memory"));
    // The origin is as it was, and nobody can change it.
    let origin = done(&["origin", id]);
    assert_eq!(
        fs::read_to_string(Path::new(origin.trim()).join("file")).unwrap(),
        "old\n"
    );
    sh("mkdir -p /tmp/view");
    done(&["origin", id, "--mount", "/tmp/view"]);
    assert_eq!(fs::read_to_string("/tmp/view/file").unwrap(), "old\n");
    sh("if touch /tmp/view/x 2>/dev/null; then exit 1; fi; test -d /tmp/view/lost+found");
    refused(&["discard", id], &["/tmp/view", "--unmount"]);
    done(&["origin", id, "--unmount", "/tmp/view"]);
    for command in ["commit", "extend"] {
        refused(&[command, id], &["it is a union"]);
    }
    // While somebody has a file open there, it stays, and they are named.
    let mut scribe = Scribe(Target::spawn("scribe", &[&mount.path("file")]));
    let pid = scribe.0.pid().to_string();
    refused(
        &["discard", id],
        &[&pid, "scribe", "descriptor", &mount.path("file")],
    );
    scribe.assert_writes();
    drop(scribe);
    done(&["discard", id]);
    assert_no_union(&mount);
    sh(&format!(
        "test -d {0}/lost+found; test ! -e {0}/large; umount {0}; e2fsck -f -n {1}",
        mount.dir,
        _disk.part("data")
    ));
}

#[test]
fn who_can_write_is_named_and_nothing_is_changed() {
    let (_disk, mount) = ext4();
    let mut scribe = Scribe(Target::spawn("scribe", &[&mount.path("kept")]));
    let pid = scribe.0.pid().to_string();
    let output = union(&mount.dir, &[]).unwrap_err();
    assert_says(
        &["take"],
        &output,
        &[
            "cannot put a union over",
            &pid,
            "scribe",
            "descriptor",
            &mount.path("kept"),
        ],
    );
    scribe.assert_writes();
    assert_no_union(&mount);
    drop(scribe);
    // A file that is deleted and open is gone for good only later: that is a write, too.
    let reader = Target::spawn(
        "sh",
        &[
            "-c",
            &format!("exec 7<{0}; rm {0}; echo pid 1; cat", mount.path("kept")),
        ],
    );
    let output = union(&mount.dir, &[]).unwrap_err();
    assert_says(&["take"], &output, &[&reader.pid().to_string(), "deleted"]);
    drop(reader);
    assert_no_union(&mount);
    let dir = &mount.dir;
    sh(&format!("mkdir {dir}/inner; mount -t tmpfs inner {dir}/inner"));
    refused(&["take", "--no-daemon", "--union", dir], &["/inner", "hide"]);
    sh(&format!("umount {dir}/inner"));
    refused(&["take", "--no-daemon", "--union", "/"], &["root"]);
    assert_no_union(&mount);
}

#[test]
fn what_does_not_do_for_an_overlay_stays_as_it_is() {
    let disk = Disk::split(&[("data", 300)]);
    sh(&format!("mkfs.vfat {} >/dev/null", disk.part("data")));
    let mount = Mount::new(&disk.part("data"), "data");
    sh(&format!("echo old >{}", mount.path("file")));
    refused(
        &["take", "--no-daemon", "--union", &mount.dir],
        &["no overlay over its vfat"],
    );
    assert_no_union(&mount);
}

#[test]
fn who_comes_by_another_way_cannot_write_to_what_lies_beneath() {
    let (_disk, mount) = ext4();
    let folder = mount.path("folder");
    // It stands in the filesystem, and opens by relative paths.
    let mut inside = Target::spawn(
        "sh",
        &[
            "-c",
            &format!(
                "cd {folder}; echo pid 1; while read name; do (echo x >$name) 2>/dev/null; echo $?; done"
            ),
        ],
    );
    assert_eq!(inside.tell("before").trim(), "0");
    let taken = union(&mount.dir, &[]).unwrap_or_else(|output| panic!("{}", said(&output)));
    assert_ne!(inside.tell("after").trim(), "0");
    sh(&format!(
        "test -e {folder}/before; test ! -e {folder}/after; echo x >{folder}/above"
    ));
    let id = taken["id"].as_str().unwrap();
    done(&["discard", id]);
    assert_eq!(inside.tell("after").trim(), "0");
    sh(&format!("test ! -e {folder}/above"));
    drop(inside);
    assert_no_union(&mount);
}

#[test]
fn a_union_comes_with_processes_and_other_filesystems() {
    let (_disk, mount) = ext4();
    let place = Place::tmpfs("shm");
    let mut scribe = place.scribe(&["file"]);
    let (target, pid) = oracle();
    let more = ["--pid", &pid, "--fs", &place.0, "--unfreezable", "remount-ro"];
    let taken = union(&mount.dir, &more).unwrap_or_else(|output| panic!("{}", said(&output)));
    scribe.assert_writes();
    target.assert_runs();
    assert_eq!(unions()[0]["targets"], Value::from(vec![target.pid()]));
    done(&["discard", taken["id"].as_str().unwrap()]);
    assert_no_union(&mount);
    drop(scribe);
    place.assert_goes();
}

#[test]
fn a_union_whose_take_fails_or_dies_leaves_nothing_that_discard_does_not_end() {
    let (_disk, mount) = ext4();
    let what = What {
        more: vec!["--union", &mount.dir, "--deadline", "60000"],
        ..What::default()
    };
    for phase in PHASES {
        if phase == Phase::SwitchFs {
            continue;
        }
        {
            let _knob = Knob::set("test_fail_phase", phase as i32);
            assert!(what.try_take().is_err(), "{}", phase.name());
            assert_no_union(&mount);
        }
        let held = HeldTake::at(phase, &what);
        assert_eq!(unions()[0]["state"], "armed");
        sh(&format!("if touch {}/x 2>/dev/null; then exit 1; fi", mount.dir));
        let id = unions()[0]["id"].as_str().unwrap().to_owned();
        refused(&["discard", &id], &["another command"]);
        held.kill();
        assert_eq!(unions()[0]["state"], "abandoned");
        done(&["discard", &id]);
        assert_no_union(&mount);
    }
}
