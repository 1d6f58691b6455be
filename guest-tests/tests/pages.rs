//! Every kind of memory, one by one: each is in the image as it was at the instant, however it is written afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::Duration;

use guest_tests::device::{Device, How, Snapshot};
use guest_tests::held::Held;
use guest_tests::image::Image;
use guest_tests::knob::Knob;
use guest_tests::memory::{Live, Memory, pagemap};
use guest_tests::target::Target;
use snap_common::abi;

/// Kinds that `menagerie` writes at every change.
const WRITTEN: [&str; 12] = [
    "private",
    "ksm",
    "ksm_again",
    "cow_file",
    "cow_memfd",
    "memfd",
    "system_v",
    "undumped",
    "moved",
    "torn",
    "huge",
    "pinned",
];
/// Kinds that keep their first content.
const KEPT: [&str; 2] = ["readonly", "inaccessible"];
/// Kinds that are all zeros.
const ZERO: [&str; 2] = ["zero", "dropped"];

struct Menagerie(Target);

impl Menagerie {
    fn spawn() -> Self {
        Self(Target::spawn("menagerie", &[]))
    }

    fn pid(&self) -> i32 {
        self.0.pid()
    }

    /// Where a kind is.
    fn start(&self, name: &str) -> u64 {
        self.0.at(name)
    }

    /// How many pages it has.
    fn pages(&self, name: &str) -> usize {
        usize::try_from(self.0.at(&format!("{name}_pages"))).expect("few")
    }

    /// Lets it write over everything.
    fn change(&mut self) {
        let answer = self.0.ask();
        assert!(answer.starts_with("changed"), "{answer}");
    }

    fn take(&self) -> Snapshot {
        Device::open()
            .take(&[self.pid()], 0)
            .unwrap_or_else(|failed| panic!("{failed:?}"))
    }

    /// The kinds that are not in the image as `changes` changes left them.
    fn wrong(&self, snapshot: &Snapshot, changes: u64) -> Vec<&'static str> {
        let image = Image::open(&snapshot.file);
        let is_wrong = |name: &&&str, changes| {
            let start = self.start(name);
            let pages = image.pages(self.pid(), start, self.pages(name));
            pages.iter().zip((start..).step_by(4096)).any(|(page, address)| {
                let words = (address..address + 4096).step_by(8);
                let mut expected = words.map(|word| match **name {
                    "ksm" | "ksm_again" => (word & 0xffff) ^ changes,
                    _ => word ^ changes,
                });
                !page
                    .as_ref()
                    .is_some_and(|page| expected.by_ref().eq(page.iter().copied()))
            })
        };
        let is_touched = |name: &&&str| {
            let pages = image.pages(self.pid(), self.start(name), self.pages(name));
            pages.iter().flatten().flatten().any(|word| *word != 0)
        };
        let written = WRITTEN.iter().filter(|name| is_wrong(name, changes));
        let kept = KEPT.iter().filter(|name| is_wrong(name, 0));
        written
            .chain(kept)
            .chain(ZERO.iter().filter(is_touched))
            .copied()
            .collect()
    }

    /// The physical pages behind a kind, as far as they are present.
    fn frames(&self, name: &str) -> Vec<u64> {
        (self.start(name)..)
            .step_by(4096)
            .take(self.pages(name))
            .map(|address| pagemap(self.pid(), address) & ((1 << 55) - 1))
            .collect()
    }
}

/// Lets KSM merge what it can.
fn merge_same_pages() {
    let ksm = |name: &str, value: &str| {
        std::fs::write(format!("/sys/kernel/mm/ksm/{name}"), value).expect("the kernel has KSM");
    };
    ksm("pages_to_scan", "10000");
    ksm("sleep_millisecs", "10");
    ksm("run", "1");
    for _ in 0..100 {
        let sharing = std::fs::read_to_string("/sys/kernel/mm/ksm/pages_sharing").expect("readable");
        if sharing.trim().parse::<u32>().expect("a number") >= 16 {
            ksm("run", "0");
            return;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("KSM merged nothing");
}

#[test]
fn every_kind_is_as_it_was_at_the_instant() {
    let mut target = Menagerie::spawn();
    for changes in 0..4 {
        merge_same_pages();
        let snapshot = target.take();
        target.change();
        assert_eq!(
            target.wrong(&snapshot, changes),
            [""; 0],
            "after {changes} changes"
        );
    }
}

#[test]
fn several_snapshots_at_once_each_have_their_instant() {
    let mut target = Menagerie::spawn();
    let mut snapshots = Vec::new();
    for changes in 0..4 {
        snapshots.push((changes, target.take()));
        target.change();
    }
    assert_eq!(Device::open().open_snapshots(), 4);
    for (changes, snapshot) in &snapshots {
        assert_eq!(
            target.wrong(snapshot, *changes),
            [""; 0],
            "after {changes} changes"
        );
    }
}

#[test]
fn without_arming_every_private_kind_is_wrong() {
    let mut target = Menagerie::spawn();
    let _knob = Knob::set("test_no_arm", 1);
    let snapshot = target.take();
    target.change();
    let wrong = target.wrong(&snapshot, 0);
    // What is copied in the stop needs no arming; what the kernel shares with somebody else is copied anyway.
    for name in ["private", "cow_file", "cow_memfd", "undumped", "moved", "huge"] {
        assert!(
            wrong.contains(&name),
            "{name} is right although nothing was armed: {wrong:?}"
        );
    }
}

#[test]
fn pinned_pages_are_copied_and_stay_where_they_are() {
    let mut target = Menagerie::spawn();
    let before = target.frames("pinned");
    let snapshot = target.take();
    assert!(
        snapshot.take.counts.pages_copied >= before.len() as u64,
        "{:?}",
        snapshot.take.counts
    );
    target.change();
    // Whoever has them pinned goes on to see what the process writes.
    assert_eq!(target.frames("pinned"), before);
    assert_ne!(before[0], 0, "the frames can be seen");
    assert_eq!(target.wrong(&snapshot, 0), [""; 0]);
}

#[test]
fn writes_through_the_kernel_break_the_copy_too() {
    let target = Menagerie::spawn();
    let memory = File::options()
        .write(true)
        .open(format!("/proc/{}/mem", target.pid()))
        .expect("root may write");
    let snapshot = target.take();
    // The last two are not writable to the process itself: a debugger writes them with force.
    for name in [
        "private",
        "ksm",
        "cow_file",
        "cow_memfd",
        "moved",
        "torn",
        "huge",
        "readonly",
        "inaccessible",
    ] {
        memory
            .write_all_at(&[0xff; 2 * 4096], target.start(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(target.wrong(&snapshot, 0), [""; 0]);
    // And the next snapshot has what was written.
    let next = target.take();
    let image = Image::open(&next.file);
    assert_eq!(image.word(target.pid(), target.start("readonly")), u64::MAX);
    assert_eq!(image.word(target.pid(), target.start("private") + 4096), u64::MAX);
}

#[test]
fn memory_that_goes_away_stays_in_the_image() {
    let target = Menagerie::spawn();
    let pid = target.pid();
    let says = target.0.says.clone();
    let snapshot = target.take();
    drop(target);
    let image = Image::open(&snapshot.file);
    for name in ["private", "huge", "torn", "memfd", "pinned"] {
        let last = says[name] + says[&format!("{name}_pages")] * 4096 - 8;
        assert_eq!(image.word(pid, last), last, "{name}");
    }
}

#[test]
fn a_page_with_a_hardware_error_is_told_and_what_is_around_it_is_there() {
    let target = Menagerie::spawn();
    let can_handle = std::path::Path::new("/proc/sys/vm/memory_failure_early_kill").exists();
    let poisoned = target.0.says.get("poisoned").copied();
    assert_eq!(poisoned.is_some(), can_handle);
    let Some(start) = poisoned else { return };
    let snapshot = target.take();
    assert_eq!(snapshot.take.counts.pages_unreadable, 1);
    let image = Image::open(&snapshot.file);
    let vmas = image.vmas(&image.process(target.pid()));
    let vma = vmas.iter().find(|vma| vma.start <= start && start < vma.end);
    let runs = image.runs(vma.expect("it is mapped"));
    let end = start + target.pages("poisoned") as u64 * 4096;
    let found: Vec<_> = runs
        .iter()
        .filter(|run| (start..end).contains(&run.vaddr))
        .map(|run| (run.vaddr, run.pages, run.flags & abi::RUN_UNREADABLE))
        .collect();
    let rest = u32::try_from(target.pages("poisoned")).expect("few") - 2;
    assert_eq!(
        found,
        [
            (start, 1, 0),
            (start + 4096, 1, abi::RUN_UNREADABLE),
            (start + 8192, rest, 0)
        ]
    );
    assert_eq!(image.word(target.pid(), start + 8192), start + 8192);
}

#[test]
fn huge_pages_are_armed_as_such() {
    let target = Menagerie::spawn();
    let counts = target.take().take.counts;
    assert!(counts.huge_armed >= 1, "{counts:?}");
}

#[test]
fn the_flags_say_what_kind_it_is() {
    let target = Menagerie::spawn();
    let snapshot = target.take();
    let image = Image::open(&snapshot.file);
    let vmas = image.vmas(&image.process(target.pid()));
    let flags = |name: &str| {
        let start = target.start(name);
        let found = vmas.iter().find(|vma| vma.start <= start && start < vma.end);
        found.expect("it is mapped").flags
    };
    let access = abi::VMA_READ | abi::VMA_WRITE;
    assert_eq!(flags("private"), access);
    assert_eq!(flags("readonly"), abi::VMA_READ);
    assert_eq!(flags("inaccessible"), 0);
    assert_eq!(flags("undumped"), access | abi::VMA_DONTDUMP);
    assert_eq!(flags("memfd"), access | abi::VMA_SHARED | abi::VMA_SHMEM);
    assert_eq!(flags("system_v"), access | abi::VMA_SHARED | abi::VMA_SHMEM);
    assert_eq!(flags("ring"), access | abi::VMA_SHARED | abi::VMA_INTERNAL);
    assert_eq!(flags("cow_file"), access);
}

/// Who maps shared memory only to read it has no right to write, and the kernel hardly tells that it is shared.
#[test]
fn shared_memory_that_is_only_read_is_of_the_instant() {
    let mut target = Target::spawn("reader", &[]);
    let (pid, start, pages) = (target.pid(), target.at("start"), target.at("pages"));
    for arm in [abi::ARM_EAGER, abi::ARM_LAZY, abi::ARM_PUD] {
        let word = |memory: &dyn Memory, page: u64| memory.word(pid, start + page * 4096);
        let before = word(&Live, 0);
        let how = How {
            arm,
            ..How::default()
        };
        let held = Held::begin(pid, how);
        target.ask();
        assert_eq!(word(&Live, 0), before + 1);
        let snapshot = held.release();
        let image = Image::open(&snapshot.file);
        for page in 0..pages {
            assert_eq!(word(&image, page), before + page, "page {page}, {how:?}");
        }
    }
}
