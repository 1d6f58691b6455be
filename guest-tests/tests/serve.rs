//! `freezeframe serve`: what it counts and traces, and what it says where it cannot.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use guest_tests::controller::{Daemon, METRICS, freezeframe, oracle, report, value};
use guest_tests::device::Device;
use guest_tests::sh;

#[test]
fn the_daemon_counts_what_it_takes() {
    let daemon = Daemon::start();
    let (_target, pid) = oracle();
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
        format!("manifest.json\nprocess.{pid}.json\ncore.{pid}\nBLAKE3SUMS\n")
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
    let daemon = Daemon::start();
    let (target, _) = oracle();
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
    let take = || {
        let (_target, pid) = oracle();
        freezeframe(&["take", "--json", "--pid", &pid])
    };
    let mut daemon = Daemon::start();
    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    let output = take();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no daemon answers"));
    report(&output);
    let again = Daemon::start();
    report(&take());
    let second = freezeframe(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("another daemon answers"));
    again.stop();
}

#[test]
fn without_btf_snapshots_work_and_the_lack_is_told() {
    sh("mount -t tmpfs tmpfs /sys/kernel/btf");
    let doctor = freezeframe(&["doctor"]);
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success(), "{found}");
    assert!(
        found.contains("no /sys/kernel/btf/vmlinux") && found.contains("CONFIG_DEBUG_INFO_BTF"),
        "{found}"
    );
    let daemon = Daemon::start();
    let (_target, pid) = oracle();
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
