//! Which pages an image says are unchanged since the snapshot before.

mod probe;

use std::any::Any;
use std::fs;
use std::os::unix::fs::FileExt as _;

use guest_tests::device::{Device, How, Snapshot};
use guest_tests::image::Image;
use guest_tests::knob::Knob;
use guest_tests::memory::pagemap;
use guest_tests::pressure::{Merging, Swap};
use guest_tests::target::{Target, numbers};
use guest_tests::unchanged::{compare, pages};
use snap_common::abi;

use crate::probe::{Probe, Text};

/// `test_no_hook`: not those of what sets no bit.
const TRACK: i32 = 32;
/// Not those of mappings that become one.
const JOIN: i32 = 64;

fn take(pids: &[i32], arm: u32) -> Snapshot {
    Device::open()
        .take_how(
            pids,
            How {
                arm,
                ..How::default()
            },
        )
        .unwrap_or_else(|failed| panic!("{failed:?}"))
}

/// What the image says of the process: the parent, and `TRACK_*`.
fn track(snapshot: &Snapshot, pid: i32) -> (u64, u32) {
    let process = Image::open(&snapshot.file).process(pid);
    (process.parent_id, process.track)
}

fn is_unchanged(snapshot: &Snapshot, pid: i32, address: u64) -> bool {
    let image = Image::open(&snapshot.file);
    pages(&image, pid, |flags| flags & abi::RUN_UNCHANGED != 0).contains_key(&address)
}

#[test]
fn what_nobody_wrote_is_unchanged_and_what_somebody_wrote_is_not() {
    assert_ne!(Device::open().info().features & abi::FEATURE_TRACK, 0);
    for arm in [abi::ARM_LAZY, abi::ARM_PUD] {
        let mut target = Target::spawn("menagerie", &["unmerged"]);
        let pid = target.pid();
        let first = take(&[pid], arm);
        assert_eq!(track(&first, pid), (0, abi::TRACK_ON), "there was none before");
        let none = compare(&first, &first, pid);
        assert_eq!(none.unchanged, 0);
        let second = take(&[pid], arm);
        assert_eq!(track(&second, pid), (first.take.id, abi::TRACK_ON));
        let still = compare(&first, &second, pid);
        assert_eq!(still.wrong, [0; 0]);
        // Its stack and what it said its line with may have changed.
        assert!(still.unchanged * 10 >= still.pages * 8, "{still:?}");
        assert!(target.ask().starts_with("changed"));
        let third = take(&[pid], arm);
        let changed = compare(&second, &third, pid);
        assert_eq!(changed.wrong, [0; 0]);
        for kind in [
            "private",
            "cow_file",
            "cow_memfd",
            "undumped",
            "moved",
            "torn",
            "huge",
            "pinned",
        ] {
            let start = target.at(kind);
            let all = (start..)
                .step_by(4096)
                .take(usize::try_from(target.at(&format!("{kind}_pages"))).unwrap());
            for address in all {
                assert!(
                    !is_unchanged(&third, pid, address),
                    "{kind} at {address:#x} was written"
                );
            }
        }
        for kind in ["readonly", "inaccessible"] {
            assert!(is_unchanged(&third, pid, target.at(kind)), "{kind} was not");
        }
        // What a device may write to is never called unchanged.
        let fourth = take(&[pid], arm);
        assert!(!is_unchanged(&fourth, pid, target.at("pinned")));
        assert!(is_unchanged(&fourth, pid, target.at("private")));
    }
}

#[test]
fn one_word_by_ptrace_is_a_change() {
    let target = Target::spawn("menagerie", &["unmerged"]);
    let pid = target.pid();
    let first = take(&[pid], abi::ARM_LAZY);
    for kind in ["private", "readonly", "inaccessible"] {
        let memory = fs::File::options()
            .write(true)
            .open(format!("/proc/{pid}/mem"))
            .unwrap();
        memory.write_all_at(&[1], target.at(kind)).unwrap();
    }
    let second = take(&[pid], abi::ARM_LAZY);
    assert_eq!(compare(&first, &second, pid).wrong, [0; 0]);
    for kind in ["private", "readonly", "inaccessible"] {
        assert!(!is_unchanged(&second, pid, target.at(kind)), "{kind}");
        assert!(
            is_unchanged(&second, pid, target.at(kind) + 4096),
            "{kind}, the page after"
        );
    }
}

#[test]
fn a_failed_snapshot_is_no_parent() {
    let target = Target::spawn("menagerie", &["unmerged"]);
    let pid = target.pid();
    let first = take(&[pid], abi::ARM_LAZY);
    for phase in [abi_phase("prepare"), abi_phase("freeze_tasks")] {
        let _fail = Knob::set("test_fail_phase", phase);
        assert!(Device::open().take(&[pid], 0).is_err());
    }
    let second = take(&[pid], abi::ARM_LAZY);
    assert_eq!(
        track(&second, pid).0,
        first.take.id,
        "they did not come to the memory"
    );
    assert_eq!(compare(&first, &second, pid).wrong, [0; 0]);
    for phase in [abi_phase("thaw_tasks"), abi_phase("finalize")] {
        let fail = Knob::set("test_fail_phase", phase);
        assert!(Device::open().take(&[pid], 0).is_err());
        drop(fail);
        let next = take(&[pid], abi::ARM_LAZY);
        let (parent, _) = track(&next, pid);
        assert_ne!(parent, first.take.id);
        assert_ne!(
            parent, second.take.id,
            "after a failed one no image has the pages"
        );
    }
}

fn abi_phase(name: &str) -> i32 {
    let all = snap_common::phase::Phase::ALL;
    let index = all.iter().position(|phase| phase.name() == name);
    i32::try_from(index.expect("there is such a phase")).unwrap()
}

/// CRIU and others use the same bits: what they began stays theirs.
#[test]
fn another_tracker_is_left_alone() {
    let mut target = Target::spawn("menagerie", &["unmerged"]);
    let pid = target.pid();
    fs::write(format!("/proc/{pid}/clear_refs"), "4").unwrap();
    let soft_dirty = |address: u64| pagemap(pid, address) >> 55 & 1 == 1;
    let private = target.at("private");
    assert!(!soft_dirty(private));
    assert!(target.ask().starts_with("changed"));
    assert!(soft_dirty(private));
    for _ in 0..2 {
        let snapshot = take(&[pid], abi::ARM_LAZY);
        assert_eq!(track(&snapshot, pid), (0, abi::TRACK_FOREIGN));
        assert!(soft_dirty(private), "it still sees what changed");
        assert!(!is_unchanged(&snapshot, pid, target.at("readonly")));
    }
    // And one that comes after us.
    let other = Target::spawn("menagerie", &["unmerged"]);
    let first = take(&[other.pid()], abi::ARM_LAZY);
    assert_eq!(track(&first, other.pid()).1, abi::TRACK_ON);
    fs::write(format!("/proc/{}/clear_refs", other.pid()), "4").unwrap();
    let second = take(&[other.pid()], abi::ARM_LAZY);
    assert_eq!(track(&second, other.pid()), (0, abi::TRACK_FOREIGN));
}

/// What goes when the snapshot is taken.
type Guard = Box<dyn Any>;

/// How many pages are wrongly said to be unchanged when something was done to a `mover` between two snapshots; none where it
/// says that it could do nothing.
fn wrong_after(
    how: &str,
    ready: impl Fn(&Target),
    act: impl Fn(&mut Target) -> Option<Guard>,
) -> Option<usize> {
    let mut target = Target::spawn("mover", &[how]);
    let pid = target.pid();
    ready(&target);
    let first = take(&[pid], abi::ARM_LAZY);
    // The flags of the mappings are those of the second.
    let before = take(&[pid], abi::ARM_LAZY);
    assert_eq!(compare(&first, &before, pid).wrong, [0; 0]);
    let _guard = act(&mut target)?;
    let after = take(&[pid], abi::ARM_LAZY);
    Some(compare(&before, &after, pid).wrong.len())
}

/// The module sees it; without its hook, at least so many pages are taken for those that were there.
fn assert_seen(how: &str, least: usize, act: impl Fn(&mut Target) -> Option<Guard>) {
    assert_seen_in(how, least, |_| (), act);
}

/// The same, in a target that something is done to beforehand.
fn assert_seen_in(
    how: &str,
    least: usize,
    ready: impl Fn(&Target),
    act: impl Fn(&mut Target) -> Option<Guard>,
) {
    assert_eq!(wrong_after(how, &ready, &act), Some(0), "{how}");
    let _knob = Knob::set("test_no_hook", TRACK);
    let wrong = wrong_after(how, &ready, &act);
    assert!(
        wrong >= Some(least),
        "{how}: unseen, {wrong:?} pages are taken for those that were there"
    );
}

/// How many pages it says that it moved, if any.
fn moved(target: &mut Target) -> Option<u64> {
    Some(numbers(&target.ask())["moved"]).filter(|pages| *pages > 0)
}

#[test]
fn what_was_moved_there_is_not_unchanged() {
    assert_seen("mremap", 1000, |target| Some(Box::new(moved(target)?)));
}

#[test]
fn half_of_what_a_table_maps_is_not_unchanged_where_it_was_moved() {
    let act = |target: &mut Target| -> Option<Guard> { Some(Box::new(moved(target)?)) };
    // Before 6.7 the kernel moves no table for that, but its entries, with their bits.
    if std::env::var("FF_KERNEL").as_deref() == Ok("6.1") {
        let _knob = Knob::set("test_no_hook", TRACK);
        assert_eq!(wrong_after("short", |_| (), act), Some(0));
    } else {
        assert_seen("short", 200, act);
    }
}

/// The mapping that it becomes a part of has nothing that says so.
#[test]
fn what_was_moved_there_and_joined_is_not_unchanged() {
    let act = |target: &mut Target| -> Option<Guard> { Some(Box::new(moved(target)?)) };
    for how in ["joined", "filled"] {
        assert_eq!(wrong_after(how, |_| (), act), Some(0), "{how}");
        let _knob = Knob::set("test_no_hook", JOIN);
        assert!(wrong_after(how, |_| (), act) >= Some(500), "{how}");
    }
}

/// The kernel may bring a page in that can be written to, without the bit that says so. What is pinned then, a device writes to unseen.
#[test]
fn what_was_brought_in_writable_counts_as_changed() {
    let _swap = Swap::on_zram();
    let mut target = Target::spawn("mover", &["swapped"]);
    let pid = target.pid();
    // With that, no bit is set; the mapping grows afterwards.
    drop(take(&[pid], abi::ARM_LAZY));
    let said = numbers(&target.ask());
    assert!(said["moved"] > 1000, "{said:?}");
    let second = take(&[pid], abi::ARM_LAZY);
    let soft_dirty = |address: u64| pagemap(pid, address) >> 55 & 1 == 1;
    assert!(soft_dirty(said["page"]));
    assert!(
        !soft_dirty(said["page"] + 4096),
        "its neighbour is held, and has none"
    );
    let third = take(&[pid], abi::ARM_LAZY);
    assert_eq!(compare(&second, &third, pid).wrong, [0; 0]);
    assert!(!is_unchanged(&third, pid, said["page"]));
}

/// It needs no hook as long as the kernel moves only what was written since: the bit moves along, with an entry of the swap, too.
#[test]
fn what_was_swapped_out_and_moved_there_is_not_unchanged() {
    let _swap = Swap::on_zram();
    // 6.8 moves.
    let can = std::env::var("FF_KERNEL").as_deref() != Ok("6.1");
    for hook in [0, TRACK] {
        let _knob = Knob::set("test_no_hook", hook);
        let wrong = wrong_after("userfault", |_| (), |target| Some(Box::new(moved(target)?)));
        assert_eq!(wrong, can.then_some(0));
    }
}

#[test]
fn what_was_merged_is_not_unchanged() {
    assert_seen("same", 1000, |target| {
        let pages = moved(target)?;
        let merging = Merging::begin();
        merging.wait_for(pages / 2);
        Some(Box::new(merging))
    });
}

#[test]
fn what_has_a_breakpoint_is_not_unchanged() {
    // Bits of a mapping that has no page of its own are not believed.
    let touch = |target: &Target| Text::of(target).touch();
    assert_seen_in("mremap", 1, touch, |target| {
        Some(Box::new(Probe::at_entry(&Text::of(target))))
    });
}

/// KSM puts a page that many have in place of one, and tells nobody.
#[test]
fn a_process_whose_pages_are_merged_is_not_tracked() {
    let target = Target::spawn("menagerie", &[]);
    let pid = target.pid();
    for _ in 0..2 {
        assert_eq!(track(&take(&[pid], abi::ARM_LAZY), pid), (0, abi::TRACK_MERGED));
    }
}

#[test]
fn eager_snapshots_do_not_track() {
    let target = Target::spawn("menagerie", &["unmerged"]);
    let pid = target.pid();
    let first = take(&[pid], abi::ARM_LAZY);
    let eager = take(&[pid], abi::ARM_EAGER);
    assert_eq!(track(&eager, pid), (0, abi::TRACK_EAGER));
    // What it armed is compared with nothing: the bits say what changed since the first, and that is not the last any more.
    let third = take(&[pid], abi::ARM_LAZY);
    assert_ne!(track(&third, pid).0, first.take.id);
}
