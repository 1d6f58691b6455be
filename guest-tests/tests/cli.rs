//! `freezeframe` as a user runs it.

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use guest_tests::device::Device;
use guest_tests::knob::Knob;
use guest_tests::sh;
use guest_tests::target::Target;
use serde_json::Value;
use snap_common::phase::Phase;

fn freezeframe(arguments: &[&str]) -> Output {
    Command::new("freezeframe")
        .args(arguments)
        .output()
        .expect("freezeframe runs")
}

fn oracle() -> (Target, String) {
    let target = Target::spawn("oracle", &["64", "small"]);
    target.assert_runs();
    let pid = target.pid().to_string();
    (target, pid)
}

fn report(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

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
    assert_eq!(
        sh(&format!("tar tf {folder}/image.tar")),
        format!("manifest.json\ncore.{pid}\n")
    );
    sh(&format!("cd {folder} && tar xf image.tar"));
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string("/tmp/archive/manifest.json").unwrap()).unwrap();
    assert_eq!(manifest["processes"][0]["pid"], target.pid());
    assert_eq!(manifest["processes"][0]["threads"].as_array().unwrap().len(), 11);

    let constant = target.at("constant");
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

#[test]
fn standard_output_is_the_archive_alone() {
    let (_target, pid) = oracle();
    let names = sh(&format!(
        "freezeframe take --pid {pid} -o - 2>/tmp/report | tar t"
    ));
    assert_eq!(names, format!("manifest.json\ncore.{pid}\n"));
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
            "is not the freezeframe device",
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
fn a_module_of_another_version_is_refused() {
    let (target, pid) = oracle();
    let knob = Knob::set("test_abi_version", 7);
    let output = freezeframe(&["take", "--no-daemon", "--pid", &pid]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains(
            "speaks ABI version 7, this freezeframe 1; install module and controller of the same release"
        ),
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
fn without_btf_snapshots_work_and_the_lack_is_told() {
    let (_target, pid) = oracle();
    sh("mount -t tmpfs tmpfs /sys/kernel/btf");
    let doctor = freezeframe(&["doctor"]);
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success(), "{found}");
    assert!(
        found.contains("no /sys/kernel/btf/vmlinux") && found.contains("CONFIG_DEBUG_INFO_BTF"),
        "{found}"
    );
    let daemon = Daemon::start();
    report(&freezeframe(&["take", "--json", "--pid", &pid]));
    let scrape = sh(&format!("curl -sf {METRICS}"));
    assert!(
        scrape.contains("freezeframe_snapshots_total{result=\"ok\"} 1"),
        "{scrape}"
    );
    let said = daemon.stop();
    assert!(
        said.contains("nothing is traced: no BTF") && said.contains("CONFIG_DEBUG_INFO_BTF"),
        "{said}"
    );
    sh("umount /sys/kernel/btf");
}

#[test]
fn a_full_disk_costs_nothing_but_the_image() {
    let (target, pid) = oracle();
    sh("mkdir -p /tmp/small && mount -t tmpfs -o size=64k tmpfs /tmp/small");
    let full = || {
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

/// `freezeframe serve`, stopped when it goes out of scope.
struct Daemon(Child);

impl Daemon {
    fn start() -> Self {
        let daemon = Self(
            Command::new("freezeframe")
                .arg("serve")
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        // Loading the BPF programs takes seconds in a guest without KVM.
        for _ in 0..1200 {
            if std::os::unix::net::UnixStream::connect("/run/freezeframe.sock").is_ok() {
                return daemon;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("the daemon does not listen");
    }

    fn stop(mut self) -> String {
        sh(&format!("kill -TERM {}", self.0.id()));
        assert!(self.0.wait().unwrap().success());
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

/// The value of a metric in a scrape.
fn value(scrape: &str, metric: &str) -> f64 {
    let line = scrape
        .lines()
        .find(|line| line.starts_with(&format!("{metric} ")));
    let line = line.unwrap_or_else(|| panic!("no {metric} in {scrape}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

const METRICS: &str = "http://127.0.0.1:9188/metrics";

#[test]
fn the_daemon_counts_what_it_takes() {
    let (_target, pid) = oracle();
    let daemon = Daemon::start();
    let before = sh(&format!("curl -sf {METRICS}"));
    assert!(
        before.contains("freezeframe_snapshots_total{result=\"ok\"} 0"),
        "{before}"
    );
    report(&freezeframe(&[
        "take",
        "--json",
        "--pid",
        &pid,
        "-o",
        "/tmp/by-daemon.tar",
    ]));
    assert_eq!(
        sh("tar tf /tmp/by-daemon.tar && rm /tmp/by-daemon.tar"),
        format!("manifest.json\ncore.{pid}\n")
    );
    let failed = freezeframe(&["take", "--pid", "4000000"]);
    assert_eq!(
        failed.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&failed.stderr)
    );
    let both = [1, 2].map(|_| {
        Command::new("freezeframe")
            .args(["take", "--pid", &pid])
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    });
    for mut child in both {
        assert!(child.wait().unwrap().success(), "two at once");
    }
    let after = sh(&format!("curl -sf {METRICS} | tee /tmp/metrics"));
    for line in [
        "freezeframe_snapshots_total{result=\"ok\"} 3",
        "freezeframe_snapshots_total{result=\"error\"} 1",
        "freezeframe_window_duration_seconds_count 3",
        "freezeframe_phase_duration_seconds_count{phase=\"arm\"} 3",
        "freezeframe_phase_duration_seconds_count{phase=\"drain\"} 1",
    ] {
        assert!(after.contains(line), "{line}\n{after}");
    }
    sh("promtool check metrics < /tmp/metrics");
    for metric in [
        "freezeframe_bpf_attached{program=\"freezeframe_phase\"} 1",
        "freezeframe_bpf_attached{program=\"freeze_super_entry\"} 1",
        "freezeframe_bpf_attached{program=\"do_wp_page_entry\"} 0",
        "freezeframe_bpf_events_lost_total 0",
    ] {
        assert!(after.contains(metric), "{metric}\n{after}");
    }
    assert!(
        value(&after, "freezeframe_cow_break_duration_seconds_count") > 0.0,
        "{after}"
    );
    assert!(
        value(&after, "freezeframe_bpf_events_total{kind=\"task_still\"}") > 0.0,
        "{after}"
    );
    let said = daemon.stop();
    assert!(!said.contains("not traced"), "every hook is there: {said}");
    assert!(!std::path::Path::new("/run/freezeframe.sock").exists(), "{said}");
}

#[test]
fn a_module_that_is_loaded_later_is_traced() {
    sh("rmmod freezeframe");
    let daemon = Daemon::start();
    sh("insmod \"$FF_MODULE\"");
    let (_target, pid) = oracle();
    report(&freezeframe(&["take", "--json", "--pid", &pid]));
    sleep(Duration::from_millis(500));
    let scrape = sh(&format!("curl -sf {METRICS}"));
    assert!(
        value(&scrape, "freezeframe_bpf_events_total{kind=\"phase_end\"}") > 0.0,
        "{scrape}"
    );
    let said = daemon.stop();
    assert!(
        said.contains("freezeframe_phase") && said.contains("is the module loaded?"),
        "{said}"
    );
}

#[test]
fn events_that_find_no_room_are_counted_and_told() {
    let (target, _) = oracle();
    let daemon = Daemon::start();
    // Nobody empties the ring buffer of 4,096 events; each snapshot makes more than 20.
    sh(&format!("kill -STOP {}", daemon.0.id()));
    let device = Device::open();
    for _ in 0..250 {
        assert!(device.take(&[target.pid()], 0).is_ok());
    }
    sh(&format!("kill -CONT {}", daemon.0.id()));
    sleep(Duration::from_secs(1));
    let scrape = sh(&format!("curl -sf {METRICS}"));
    let seen = value(&scrape, "freezeframe_bpf_events_total{kind=\"task_still\"}");
    let lost = value(&scrape, "freezeframe_bpf_events_lost_total");
    assert!(seen > 0.0 && lost > 0.0, "{seen} seen, {lost} lost");
    let said = daemon.stop();
    assert!(said.contains("tracing: an event found no room"), "{said}");
}

#[test]
fn both_ways_of_freezing_a_filesystem_are_seen() {
    let daemon = Daemon::start();
    sh("truncate -s 64M /tmp/disk && mkdir -p /tmp/mounted && modprobe dm-mod && modprobe loop");
    let device = sh("losetup -f --show /tmp/disk").trim().to_owned();
    sh(&format!(
        "echo 0 131072 linear {device} 0 | dmsetup create traced && mkfs.ext4 -qF /dev/mapper/traced"
    ));
    sh("mount /dev/mapper/traced /tmp/mounted");
    let seen = |kind: &str| {
        sleep(Duration::from_millis(500));
        value(
            &sh(&format!("curl -sf {METRICS}")),
            &format!("freezeframe_bpf_events_total{{kind=\"{kind}\"}}"),
        )
    };
    let before = seen("fs_freeze");
    sh("fsfreeze -f /tmp/mounted && fsfreeze -u /tmp/mounted");
    assert!(seen("fs_freeze") > before, "fsfreeze");
    let before = seen("bdev_freeze");
    sh("dmsetup suspend traced && dmsetup resume traced");
    assert!(seen("bdev_freeze") > before, "a dm suspend");
    sh(&format!(
        "umount /tmp/mounted && dmsetup remove traced && losetup -d {device} && rm /tmp/disk"
    ));
    daemon.stop();
}

#[test]
fn a_daemon_that_died_is_no_obstacle() {
    let (_target, pid) = oracle();
    let mut daemon = Daemon::start();
    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    let output = freezeframe(&["take", "--json", "--pid", &pid]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no daemon answers"));
    report(&output);
    let again = Daemon::start();
    report(&freezeframe(&["take", "--json", "--pid", &pid]));
    let second = freezeframe(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("another daemon answers"));
    again.stop();
}
