//! `freezeframe take` and `freezeframe doctor` as a user runs them.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use guest_tests::controller::{Daemon, freezeframe, oracle, report};
use guest_tests::device::Device;
use guest_tests::knob::Knob;
use guest_tests::sh;
use guest_tests::target::Target;
use serde_json::Value;
use snap_common::abi;
use snap_common::phase::Phase;

#[test]
fn the_archive_opens_with_tar_and_gdb() {
    let (target, pid) = oracle();
    let folder = "/tmp/archive";
    sh(&format!("rm -rf {folder}; mkdir {folder}"));
    let json = report(&freezeframe(&[
        "take",
        "--pid",
        &pid,
        "--json",
        "-o",
        "/tmp/archive/image.tar",
    ]));
    for field in ["id", "mode", "window_ns", "pages_armed", "image_bytes", "phases"] {
        assert!(!json[field].is_null(), "{field}: {json}");
    }
    let names: Vec<_> = json["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| phase["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "prepare",
            "freeze_tasks",
            "arm",
            "thaw_tasks",
            "finalize",
            "drain"
        ]
    );
    assert_eq!(sh(&format!("ls -A {folder}")), "image.tar\n");
    assert_eq!(sh(&format!("stat -c %a {folder}/image.tar")), "600\n");
    assert_eq!(sh(&format!("tar tf {folder}/image.tar")), members(&pid));
    sh(&format!("cd {folder} && tar xf image.tar"));
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string("/tmp/archive/manifest.json").unwrap()).unwrap();
    assert_eq!(manifest["processes"][0]["pid"], target.pid());
    assert_eq!(manifest["processes"][0]["threads"], 11);

    let constant = target.at("constant");
    drop(target); // it would take gdb's processor
    let gdb = sh(&format!(
        "gdb -batch -ex 'info threads' -ex 'x/2gx {:#x}' -ex 'thread apply all -q p $rip' $(command -v oracle) {folder}/core.{pid} 2>&1",
        constant + 8
    ));
    let second = 2_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    assert!(
        gdb.contains(&format!("0x9e3779b97f4a7c15\t{second:#018x}")),
        "{gdb}"
    );
    assert_eq!(
        gdb.matches("LWP").count(),
        11 + 1 + 11,
        "eleven threads, three times over: {gdb}"
    );
    assert!(!gdb.contains("warning: Unexpected size"), "{gdb}");
}

/// What tar lists of an image of one process.
fn members(pid: &str) -> String {
    format!("manifest.json\nprocess.{pid}.json\ncore.{pid}\nBLAKE3SUMS\n")
}

#[test]
fn standard_output_is_the_archive_alone() {
    let (_target, pid) = oracle();
    let names = sh(&format!(
        "freezeframe take --pid {pid} -o - 2>/tmp/report | tar t"
    ));
    assert_eq!(names, members(&pid));
    assert!(std::fs::read_to_string("/tmp/report").unwrap().contains("window"));
    let script = format!("{{ freezeframe take --pid {pid} -o - || echo $? >&2; }} 2>&1 >/dev/full");
    let said = sh(&script);
    assert!(
        said.starts_with("freezeframe: cannot write to standard output: No space left")
            && said.ends_with("\n5\n"),
        "{said}"
    );
}

#[test]
fn bad_input_is_one_clear_line() {
    let (target, pid) = oracle();
    let own = "$$";
    for (arguments, code, words) in [
        ("--pid 4000000", 4, "process 4000000: no such process"),
        ("--pid 2", 4, "process 2: it is a kernel thread"),
        (&format!("--pid {pid} --pid {pid}"), 4, "named twice"),
        (
            &format!("--pid {pid} --device /dev/nowhere"),
            3,
            "the kernel module is not loaded",
        ),
        (
            &format!("--pid {pid} --device /dev/null"),
            3,
            "is not the freezeframe device: Inappropriate ioctl for device (os error 25); name the right one",
        ),
        (
            &format!("--pid {pid} -o /proc/image.tar"),
            5,
            "cannot write /proc/image.tar",
        ),
        (
            &format!("--pid {pid} -o /nowhere/image.tar"),
            5,
            "cannot write /nowhere/image.tar",
        ),
        (&format!("--pid {pid} -o /etc/passwd"), 5, "it exists already"),
        (&format!("--pid {own}"), 4, "it is freezeframe itself"),
    ] {
        let script = format!("exec freezeframe take --no-daemon {arguments}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert!(text.contains(words), "{arguments}: {text}");
        assert_eq!(
            (text.lines().count(), output.stdout.len()),
            (1, 0),
            "{arguments}: {text}"
        );
    }
    // A terminal is no place for an archive.
    let script = format!("script -qec 'freezeframe take --no-daemon --pid {pid} -o -' /dev/null");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("standard output is a terminal"), "{text}");
    let script = format!("setpriv --reuid 65534 --clear-groups freezeframe take --no-daemon --pid {pid}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{text}");
    assert!(text.contains("run as root"), "{text}");
    target.assert_runs();
}

#[test]
fn signals_that_users_send_end_it_and_leave_nothing() {
    let (target, pid) = oracle();
    let device = Device::open();
    sh("mkdir -p /tmp/stopped");
    let _phase = Knob::set("test_hold_phase", Phase::Finalize as i32);
    let _ms = Knob::set("test_hold_ms", 2000);
    for (signal, word) in [
        ("INT", "interrupted"),
        ("TERM", "terminated"),
        ("HUP", "terminal"),
    ] {
        let child = Command::new("freezeframe")
            .args([
                "take",
                "--no-daemon",
                "--pid",
                &pid,
                "-o",
                "/tmp/stopped/image.tar",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while device.open_snapshots() == 0 {
            sleep(Duration::from_millis(10));
        }
        sh(&format!("kill -{signal} {}", child.id()));
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{signal}: {text}");
        assert!(
            text.contains(word) && text.lines().count() == 1,
            "{signal}: {text}"
        );
        assert_eq!(sh("ls -A /tmp/stopped"), "", "{signal}");
        assert_eq!(device.open_snapshots(), 0, "{signal}");
    }
    target.assert_runs();
}

#[test]
fn too_little_room_is_refused_with_figures() {
    let available: usize = sh("awk '/^MemAvailable:/ { print $2 }' /proc/meminfo")
        .trim()
        .parse()
        .unwrap();
    let pages = available / 4 * 6 / 10;
    let target = Target::spawn("oracle", &[&pages.to_string(), "thp"]);
    let pid = target.pid().to_string();
    // Nothing here can be reclaimed: there is no swap, and page cache counts as available.
    for more in [&[][..], &["--reclaim"]] {
        let output = freezeframe(&[&["take", "--no-daemon", "--pid", &pid], more].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(8), "{more:?}: {text}");
        assert!(
            text.contains("must be kept twice, and the machine has available") && text.lines().count() == 1,
            "{more:?}: {text}"
        );
    }
    let output = freezeframe(&["take", "--no-daemon", "--force", "--pid", &pid]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.assert_runs();
}

#[test]
fn a_module_of_another_version_is_refused() {
    let (target, pid) = oracle();
    let knob = Knob::set("test_abi_version", 7);
    let output = freezeframe(&["take", "--no-daemon", "--pid", &pid]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains(&format!(
            "speaks ABI version 7, this freezeframe {}; install module and controller of the same release",
            abi::ABI_VERSION
        )),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    let doctor = freezeframe(&["doctor"]);
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(3), "{found}");
    assert!(found.contains("ABI version 7"), "{found}");
    drop(knob);
    report(&freezeframe(&["take", "--no-daemon", "--json", "--pid", &pid]));
    target.assert_runs();
}

#[test]
fn a_full_disk_costs_nothing_but_the_image() {
    sh("mkdir -p /tmp/small && mount -t tmpfs -o size=64k tmpfs /tmp/small");
    let full = || {
        let (target, pid) = oracle();
        let output = freezeframe(&["take", "--pid", &pid, "-o", "/tmp/small/image.tar"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{text}");
        assert!(
            text.contains("cannot write /tmp/small/image.tar: No space left on device"),
            "{text}"
        );
        assert_eq!(sh("ls -A /tmp/small"), "");
        target.assert_runs();
    };
    full();
    let daemon = Daemon::start();
    full();
    daemon.stop();
    sh("umount /tmp/small");
}

#[test]
fn the_doctor_finds_everything_here() {
    let output = freezeframe(&["doctor", "--json"]);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{findings}");
    assert!(
        findings
            .as_array()
            .unwrap()
            .iter()
            .all(|finding| finding["state"] == "ok"),
        "{findings}"
    );
}
