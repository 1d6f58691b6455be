//! The daemon and the stores of snapshots: what goes into them is counted, how full they are is shown, and one that fills is told
//! of, extended, or left to a command.

use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_tests::controller::{Daemon, freezeframe, report, scrape, value};
use guest_tests::disk::base::{Base, Kind};
use guest_tests::disk::fs::{self, Mount};
use guest_tests::disk::snapshot::{Snapshot, done};
use guest_tests::disk::{Disk, dm};
use guest_tests::{patience, sh};

/// Takes a snapshot by the daemon.
fn take(mount: &Mount, store: &str) -> Snapshot {
    let report = report(&freezeframe(&[
        "take",
        "--json",
        "--fs",
        &mount.dir,
        "--snapblockdev",
        store,
        "--chunk",
        "8",
    ]));
    Snapshot {
        id: report["disk"]["id"].as_str().expect("it has an ID").to_owned(),
        report,
        memory: None,
    }
}

/// Waits until a scrape is as it should be, and returns it.
fn until(what: &str, holds: impl Fn(&str) -> bool) -> String {
    let begin = Instant::now();
    loop {
        let text = scrape();
        if holds(&text) {
            return text;
        }
        assert!(begin.elapsed() < patience(60), "{what} never came: {text}");
        sleep(Duration::from_millis(200));
    }
}

fn counter(scrape: &str, name: &str) -> f64 {
    value(scrape, &format!("freezeframe_store_{name}{{device=\"data\"}}"))
}

fn gauge(name: &str, id: &str) -> String {
    format!("freezeframe_store_{name}{{device=\"data\",snapshot=\"{id}\"}}")
}

/// Once nothing is under way any more: exceptions, copies, and how many were timed.
fn counts() -> [f64; 4] {
    let figures = |text: &str| {
        [
            "exceptions_total",
            "copies_total",
            "exception_duration_seconds_count",
            "copy_duration_seconds_count",
        ]
        .map(|name| counter(text, name))
    };
    sh("sync");
    let text = until("the end of all exceptions", |text| {
        let [exceptions, copies, whole, copying] = figures(text);
        exceptions == whole && copies == copying
    });
    figures(&text)
}

fn fio(mount: &Mount, arguments: &str) {
    sh(&format!(
        "fio --name=write --filename={} --ioengine=psync --direct=1 --allow_file_create=0 --overwrite=1 --end_fsync=1 \
         --output=/dev/null {arguments}",
        mount.path("file")
    ));
}

#[test]
fn first_writes_are_counted_by_how_they_go() {
    let disk = Disk::split(&[("data", 600), ("key", 700)]);
    let base = Base::on(Kind::Linear, &disk.part("data"));
    let mount = fs::Kind::Ext4.fresh(&base.node, "data");
    sh(&format!(
        "dd if=/dev/zero of={} bs=1M count=64 conv=fsync status=none",
        mount.path("file")
    ));
    let daemon = Daemon::with(&["--watch-interval", "1"]);
    assert!(!scrape().contains("freezeframe_store_exceptions_total{"));
    let snapshot = take(&mount, &disk.part("key"));
    let id = snapshot.id.clone();
    let first = until("the store", |text| text.contains(&gauge("used_bytes", &id)));
    for program in [
        "start_copy",
        "dm_kcopyd_prepare_callback",
        "copy_callback",
        "pending_complete",
    ] {
        let attached = format!("freezeframe_bpf_attached{{program=\"{program}_entry\"}}");
        assert!((value(&first, &attached) - 1.0).abs() < 0.1, "{program}: {first}");
    }
    let used = value(&first, &gauge("used_bytes", &id));

    let before = counts();
    fio(&mount, "--rw=randwrite --bs=4k --size=32M --io_size=4M");
    let whole = counts();
    println!("1024 random writes of 4 KiB: {before:?} to {whole:?}");
    // The filesystem writes a little of its own, in whole blocks.
    assert!(
        (1024.0..1200.0).contains(&(whole[0] - before[0])),
        "{before:?} {whole:?}"
    );
    assert!(
        whole[1] - before[1] < 1.0,
        "no chunk was copied: {before:?} {whole:?}"
    );

    // One sector in each chunk, of those that were not written yet.
    fio(&mount, "--rw=write:3584 --bs=512 --offset=40M --size=2M");
    let copied = counts();
    println!("512 writes of a sector: {whole:?} to {copied:?}");
    assert!(
        (512.0..600.0).contains(&(copied[1] - whole[1])),
        "{whole:?} {copied:?}"
    );
    assert!(
        (512.0..700.0).contains(&(copied[0] - whole[0])),
        "{whole:?} {copied:?}"
    );
    fio(&mount, "--rw=write:3584 --bs=512 --offset=40M --size=2M");
    let again = counts();
    assert!(
        again[1] - copied[1] < 1.0,
        "each chunk is copied once: {copied:?} {again:?}"
    );

    let text = until("the fill", |text| {
        value(text, &gauge("used_bytes", &id)) >= used + 1536.0 * 4096.0
    });
    assert!(
        value(&text, &gauge("size_bytes", &id)) > 600.0 * 1048576.0,
        "{text}"
    );
    assert!(value(&text, &gauge("overflowed", &id)) < 0.1);
    assert!(
        !text.contains(&gauge("overflow_seconds", &id)),
        "it cannot overflow: {text}"
    );
    assert!(counter(&text, "copy_duration_seconds_sum") > 0.0);
    assert!(counter(&text, "exception_duration_seconds_sum") > counter(&text, "copy_duration_seconds_sum"));
    assert!(value(&text, "freezeframe_bpf_events_lost_total") < 0.1, "{text}");
    sh(&format!(
        "cat > /tmp/disk/metrics <<'END'\n{text}END\npromtool check metrics < /tmp/disk/metrics"
    ));

    snapshot.commit();
    let after = until("the end of the gauges", |text| !text.contains(&id));
    assert!(
        counter(&after, "copies_total") >= again[1],
        "counters stay: {after}"
    );
    let attached = "freezeframe_bpf_attached{program=\"start_copy_entry\"}";
    assert!(value(&after, attached) < 0.1, "{after}");

    // A second snapshot of the same device goes on where the first one ended.
    let snapshot = take(&mount, &disk.part("key"));
    fio(&mount, "--rw=write:3584 --bs=512 --offset=48M --size=1M");
    let further = counts();
    assert!(
        (256.0..300.0).contains(&(further[1] - again[1])),
        "{again:?} {further:?}"
    );
    drop(mount);
    snapshot.discard();
    let said = daemon.stop();
    assert!(!said.contains("not traced") && !said.contains("fills"), "{said}");
}

#[test]
fn a_store_that_fills_is_told_of_and_extended() {
    let disk = Disk::split(&[("data", 300), ("other", 300), ("key", 340)]);
    let base = Base::on(Kind::Linear, &disk.part("data"));
    let mount = fs::Kind::Ext4.fresh(&base.node, "data");
    let other = fs::Kind::Ext4.fresh(&dm::linear("other", &disk.part("other")), "other");
    let daemon = Daemon::with(&["--watch-interval", "1", "--on-overflow", "extend"]);
    // The first takes most of the store, and leaves it when it is committed.
    let large = take(&other, &disk.part("key"));
    let snapshot = take(&mount, &disk.part("key"));
    large.commit();
    let text = until("the store", |text| {
        text.contains(&gauge("overflow_seconds", &snapshot.id))
    });
    let size = value(&text, &gauge("size_bytes", &snapshot.id));
    assert!(size < 64.0 * 1048576.0, "{size}");
    let mut written = 0.0;
    while written < 2.0 * size {
        let part = format!(
            "dd if=/dev/zero of={} bs=1M count=4 oflag=append,direct conv=notrunc status=none",
            mount.path("file")
        );
        sh(&part);
        written += 4.0 * 1048576.0;
        sleep(Duration::from_secs(1));
    }
    let text = until("the extension", |text| {
        value(text, &gauge("size_bytes", &snapshot.id)) > 2.0 * size
    });
    assert!(value(&text, &gauge("overflowed", &snapshot.id)) < 0.1, "{text}");
    mount.assert_writable();
    snapshot.commit();
    let said = daemon.stop();
    assert!(
        said.contains(&format!("on data fills: ")) && said.contains("full in "),
        "{said}"
    );
    assert!(said.contains("extended the store of "), "{said}");
    assert!(!said.contains("overflowed"), "{said}");
}

#[test]
fn an_overflow_is_told_once_and_a_command_runs() {
    let disk = Disk::split(&[("data", 300), ("key", 40)]);
    let base = Base::on(Kind::Linear, &disk.part("data"));
    let mount = fs::Kind::Ext4.fresh(&base.node, "data");
    let daemon = Daemon::with(&[
        "--watch-interval",
        "1",
        "--on-overflow",
        "exec:env | grep ^FREEZEFRAME_ > /tmp/disk/told-$FREEZEFRAME_OVERFLOWED; exit 3",
    ]);
    let snapshot = take(&mount, &disk.part("key"));
    sh(&format!(
        "dd if=/dev/zero of={} bs=1M count=100 oflag=direct status=none 2>/dev/null || true",
        mount.path("file")
    ));
    let text = until("the overflow", |text| {
        text.contains(&format!("{} 1\n", gauge("overflowed", &snapshot.id)))
    });
    assert!(
        value(&text, &gauge("overflow_seconds", &snapshot.id)) < 0.1,
        "{text}"
    );
    sleep(Duration::from_secs(3));
    let told = sh("cat /tmp/disk/told-1");
    for line in [
        format!("FREEZEFRAME_SNAPSHOT={}", snapshot.id),
        "FREEZEFRAME_DEVICE=data".to_owned(),
        "FREEZEFRAME_OVERFLOW_SECONDS=0".to_owned(),
    ] {
        assert!(told.lines().any(|found| found == line), "{line}: {told}");
    }
    assert!(
        told.contains("FREEZEFRAME_USED_BYTES=") && told.contains("FREEZEFRAME_SIZE_BYTES="),
        "{told}"
    );
    drop(mount);
    let id = snapshot.id.clone();
    done(&["discard", &id]);
    until("the end of the gauges", |text| !text.contains(&id));
    let said = daemon.stop();
    assert_eq!(said.matches("has overflowed").count(), 1, "{said}");
    assert!(said.contains("(--on-overflow): exit status: 3"), "{said}");
}
