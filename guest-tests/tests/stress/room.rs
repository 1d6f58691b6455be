//! What `freezeframe take` does before anything freezes, where there is too little memory for the copies.

use guest_tests::controller::freezeframe;
use guest_tests::pressure::{Group, Swap};
use guest_tests::sh;
use guest_tests::target::Target;

use crate::limits::meminfo;

/// A process in a cgroup that has so much memory, and does nothing with it.
fn idle(group: &str, bytes: u64) -> Target {
    let mut target = Target::spawn_in(group, "hog");
    assert_eq!(target.tell(&bytes.to_string()), "has\n");
    target
}

/// The exit code, and what was said.
fn take(target: &Target, more: &[&str]) -> (Option<i32>, String) {
    let pid = target.pid().to_string();
    let output = freezeframe(&[&["take", "--no-daemon", "--pid", &pid], more].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_target_that_fills_its_cgroup_is_refused_with_figures() {
    let group = Group::new("stress");
    let target = idle(group.path(), 32 << 20);
    group.set("memory.max", "48M");
    for more in [&[][..], &["--reclaim"]] {
        let (code, said) = take(&target, more);
        assert_eq!(code, Some(8), "{more:?}: {said}");
        let figures = format!("must be kept twice, and the cgroup {} has room for", group.path());
        assert!(
            said.contains(&figures) && said.lines().count() == 1,
            "{more:?}: {said}"
        );
    }
    let (code, said) = take(&target, &["--force"]);
    assert_eq!(code, Some(0), "{said}");
    group.set("memory.max", "128M");
    let (code, said) = take(&target, &[]);
    assert_eq!(code, Some(0), "{said}");
    drop(target);
}

#[test]
fn reclaim_makes_room() {
    let _swap = Swap::on_zram();
    // Page cache, which counts as available, and is freed first.
    sh("cat /usr/bin/* >/dev/null");
    let available = meminfo("MemAvailable:") * 1024;
    let _other = idle("/sys/fs/cgroup", available / 2);
    let target = idle("/sys/fs/cgroup", available * 3 / 10);
    let (code, said) = take(&target, &[]);
    assert_eq!(code, Some(8), "{said}");
    let swapped = meminfo("SwapTotal:") - meminfo("SwapFree:");
    let (code, said) = take(&target, &["--reclaim"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(meminfo("SwapTotal:") - meminfo("SwapFree:") > swapped);
}
