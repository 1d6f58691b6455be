//! Unions.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::ChildStderr;

use guest_tests::controller::{freezeframe, oracle};
use guest_tests::disk::Disk;
use guest_tests::disk::dm::wait_until;
use guest_tests::disk::fs::{Kind, Mount};
use guest_tests::disk::held::{HeldTake, PHASES};
use guest_tests::disk::snapshot::{What, assert_says, done, refused, said};
use guest_tests::knob::Knob;
use guest_tests::sh;
use guest_tests::target::Target;
use serde_json::Value;
use snap_common::phase::Phase;

use crate::{Place, Scribe};

/// An ext4 with a file.
fn ext4() -> (Disk, Mount) {
    // What a failed test left.
    sh("for dir in /run/freezeframe/union-*; do freezeframe discard ${dir##*-} 2>/dev/null || true; done");
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

/// Reads what a take says until it says that.
fn hear(said: &mut BufReader<ChildStderr>, word: &str) -> String {
    let mut text = String::new();
    while !text.contains(word) {
        let read = said.read_line(&mut text).expect("it is text");
        assert_ne!(read, 0, "it does not say `{word}`: {text}");
    }
    text
}

#[test]
fn a_union_goes_when_its_take_is_interrupted_unless_somebody_uses_it() {
    let (_disk, mount) = ext4();
    let (target, pid) = oracle();
    // Nobody reads its archive, and a pipe does not hold it.
    let what = What {
        more: vec!["--pid", &pid, "--union", &mount.dir, "--output", "-"],
        ..What::default()
    };
    let interrupted = |meanwhile: &dyn Fn()| {
        let mut take = what.begin();
        wait_until("the union", || {
            unions().first().is_some_and(|union| union["state"] == "active")
        });
        meanwhile();
        sh(&format!("kill -INT {}", take.id()));
        let mut said = BufReader::new(take.stderr.take().expect("piped"));
        let said = hear(&mut said, "interrupted");
        drop(take.stdout.take());
        assert!(!take.wait().expect("it is ours").success(), "{said}");
        target.assert_runs();
        said
    };
    let said = interrupted(&|| ());
    assert!(!said.contains("stays"), "{said}");
    assert_no_union(&mount);

    // What was written is not thrown away.
    let said = interrupted(&|| drop(sh(&format!("echo more >{}", mount.path("more")))));
    assert!(said.contains("it has been written to"), "{said}");
    assert_eq!(fs::read_to_string(mount.path("more")).unwrap(), "more\n");
    done(&["discard", unions()[0]["id"].as_str().unwrap()]);
    assert_no_union(&mount);

    // Who stands in it keeps it, and nobody's writes fail for that.
    let inside = std::cell::RefCell::new(None);
    let said = interrupted(&|| {
        let script = format!("cd {}; echo pid 1; exec cat", mount.dir);
        *inside.borrow_mut() = Some(Target::spawn("sh", &["-c", &script]));
    });
    assert!(said.contains("stays") && said.contains("in use"), "{said}");
    mount.assert_writable();
    drop(inside);
    done(&["discard", unions()[0]["id"].as_str().unwrap()]);
    assert_no_union(&mount);
}
