//! A machine whose root filesystem is on our layer is snapshotted whole, and goes on.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use guest_tests::disk::root::{DIR, TOP, assert_on_the_layer, drop_caches, take_all, target};
use guest_tests::disk::snapshot::{assert_nothing_left, done, refused};
use guest_tests::disk::{Disk, dm, fs::Kind};
use guest_tests::sectors::{Floor, Mode, Writer};
use guest_tests::{patience, rounds_of, sh};

const BLOCKS: u64 = 256;

/// Where a frozen root has this marker.
const MARKER: &str = "etc/freezeframe/active/ff-root";

/// A store that has room for less than the root's size: nobody writes that much here.
fn disk() -> Disk {
    let disk = Disk::split(&[("key", 2000)]);
    assert_on_the_layer();
    disk
}

/// Redis on the root, writing its log of commands.
struct Redis(Child);

impl Redis {
    fn start() -> Self {
        let dir = format!("{DIR}/redis");
        sh(&format!("rm -rf {dir}; mkdir -p {dir}"));
        let child = Command::new("redis-server")
            .args(["--dir", &dir, "--appendonly", "yes", "--appendfsync", "always"])
            .args(["--save", "", "--logfile", &format!("{dir}/log")])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis runs");
        let begin = std::time::Instant::now();
        while Command::new("redis-cli")
            .arg("ping")
            .output()
            .is_ok_and(|output| !output.stdout.starts_with(b"PONG"))
        {
            assert!(begin.elapsed() < patience(30), "redis does not answer");
            sleep(Duration::from_millis(100));
        }
        Self(child)
    }

    /// Counts up; the answer is on disk.
    fn count(&self) -> u64 {
        let answer = sh("redis-cli incr counter");
        answer.trim().parse().expect("a number")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

/// What a log of commands makes of the counter.
fn replayed(dir: &str) -> u64 {
    let answer = sh(&format!(
        "rm -rf /tmp/disk/redis; cp -r {dir} /tmp/disk/redis
         redis-server --port 7777 --dir /tmp/disk/redis --appendonly yes --save '' --daemonize yes \
             --pidfile /tmp/disk/redis.pid --logfile /tmp/disk/redis.log >/dev/null
         for try in $(seq 100); do redis-cli -p 7777 ping 2>/dev/null | grep -q PONG && break; sleep 0.2; done
         redis-cli -p 7777 get counter
         redis-cli -p 7777 shutdown nosave"
    ));
    answer.trim().parse().expect("a number")
}

#[test]
fn everything_is_taken_and_goes_on() {
    let disk = disk();
    let store = disk.part("key");
    let mut writers: Vec<_> = Mode::ALL
        .map(|mode| Writer::spawn(&format!("{DIR}/{}", mode.name()), mode, BLOCKS))
        .into();
    let redis = Redis::start();
    fs::write(format!("{DIR}/before"), "before").expect("the root is writable");
    for round in 0..rounds_of(2, 20) {
        writers.iter_mut().for_each(|writer| writer.goes_on(100));
        let before = redis.count();
        let snapshot = take_all(&store, &[]);

        // The machine goes on: what runs, what is started anew, what is read from the disk.
        writers.iter_mut().for_each(|writer| writer.goes_on(200));
        assert!(redis.count() > before);
        fs::write(format!("{DIR}/after"), "after").expect("the root is writable");
        drop_caches();
        sh("find /usr/bin -type f | head -n 50 | xargs cat >/dev/null; ls -lR /etc >/dev/null");
        writers.iter_mut().for_each(|writer| writer.goes_on(100));

        // The origin is of the instant.
        let origin = snapshot.mount();
        let under = |path: &str| format!("{}/{path}", origin.dir);
        for writer in &writers {
            let bounds = writer.bounds(snapshot.memory(), Floor::Written);
            let file = fs::File::open(under(&writer.path)).expect("it is on the origin");
            assert_eq!(
                bounds.wrong(&file, writer.mode.grain()),
                [""; 0],
                "round {round}, {:?}",
                writer.mode
            );
        }
        assert_eq!(
            fs::read_to_string(under(&format!("{DIR}/before"))).expect("it is there"),
            "before"
        );
        assert!(!fs::exists(under(&format!("{DIR}/after"))).expect("the folder is readable"));
        assert_eq!(replayed(&under(&format!("{DIR}/redis"))), before);
        // By which an initramfs would know that it must not be mounted without its store.
        let marker = fs::read_to_string(under(MARKER)).expect("the origin is marked");
        assert!(marker.trim_end().ends_with(&snapshot.id), "{marker}");
        origin.unmount();
        Kind::Ext4.check(&snapshot.device());

        snapshot.commit();
        assert_eq!(target(), "linear");
        writers.iter_mut().for_each(|writer| writer.goes_on(50));
        drop_caches();
        assert_eq!(
            fs::read_to_string(format!("{DIR}/after")).expect("it is committed"),
            "after"
        );
        fs::remove_file(format!("{DIR}/after")).expect("the root is writable");
    }
    let count = redis.count();
    drop(redis);
    for mut writer in writers {
        let (bounds, mode, path) = (writer.stop(), writer.mode, writer.path.clone());
        drop(writer);
        drop_caches();
        let file = fs::File::open(path).expect("it is there");
        assert_eq!(bounds.wrong(&file, mode.grain()), [""; 0], "{mode:?}");
    }
    assert_eq!(replayed(&format!("{DIR}/redis")), count);
    assert_nothing_left();
}

#[test]
fn the_root_keeps_its_layer() {
    let disk = disk();
    let layers = done(&["layer", "ls", "--json"]);
    let layers: serde_json::Value = serde_json::from_str(&layers).expect("it prints JSON");
    assert_eq!(layers[0]["name"], "root", "{layers}");
    assert_eq!(layers[0]["mounts"][0], "/", "{layers}");
    assert_eq!(layers[0]["boot"], true, "{layers}");

    // What a shutdown does leaves the root's layer alone, and its snapshot too while the root is mounted for writing.
    let snapshot = take_all(&disk.part("key"), &[]);
    done(&["layer", "down"]);
    assert_eq!(target(), "snapshot");
    refused(&["layer", "down", "--root"], &["for writing", "remount,ro"]);
    refused(&["discard", &snapshot.id], &["mounted on /"]);
    refused(&["layer", "remove", "root"], &["snapshot"]);
    done(&["layer", "up"]);
    assert_eq!(snapshot.listed()["state"], "active");
    snapshot.commit();

    // Started anew by its device or its own name, it is up already.
    for name in ["/dev/mapper/ff-root", "/dev/nvme0n1"] {
        let path = done(&["layer", "up", "--root", name, "--wait", "0"]);
        assert_eq!(path.trim(), format!("/dev/mapper/{TOP}"));
    }
    assert_eq!(done(&["layer", "up", "--root", "/dev/loop0", "--wait", "0"]), "");

    // It goes with the next boot.
    let said = done(&["layer", "remove", "root"]);
    assert!(said.contains("update-initramfs"), "{said}");
    assert_eq!(target(), "linear");
    let said = done(&["layer", "add", "/dev/nvme0n1", "--name", "again", "--at-boot"]);
    assert!(said.contains("update-initramfs"), "{said}");
    assert_eq!(dm::named("ff-again"), [""; 0]);
    done(&["layer", "remove", "again"]);
    sh("echo 'root /dev/nvme0n1' >/etc/freezeframe/layers");
}
