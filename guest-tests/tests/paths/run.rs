//! One case with one kind of memory.

use guest_tests::device::{Failed, How, Snapshot};
use guest_tests::held::Held;
use guest_tests::image::Image;
use guest_tests::pressure::Swap;
use guest_tests::sh;
use guest_tests::target::{Target, numbers};
use snap_common::abi;
use snap_common::phase::Phase;

use crate::cases::Case;
use crate::outside::{Disk, HugeShared, MidSize, send_khugepaged_to_sleep};

/// Pages that lie in the LRU's batches look like pages in use, and are held in the stop: 31 per processor (6.12).
pub const BATCHED: usize = 64;

/// How it went.
pub struct Outcome {
    /// What the module reported.
    pub take: abi::Take,
    /// The pages of the region that are not as they were, all of them in a line.
    pub wrong: Option<String>,
    /// How many.
    pub wrong_pages: usize,
}

/// Does this kernel have that kind of memory?
pub fn can(kind: &str) -> bool {
    kind != "mid" || MidSize::is_there()
}

/// Takes a snapshot and lets everything happen before its pages are held. Panics where the target finds its own memory
/// changed.
pub fn run(case: &Case, kind: &str, how: How) -> Outcome {
    attempt(case, kind, how).unwrap_or_else(|failed| panic!("{} {kind}: {failed:?}", case.action))
}

/// The same, where the snapshot may fail.
pub fn attempt(case: &Case, kind: &str, how: How) -> Result<Outcome, Failed> {
    send_khugepaged_to_sleep();
    let swap = ["free", "page_out"].contains(&case.action).then(Swap::on_zram);
    let disk = (case.action == "read_direct").then(Disk::new);
    let device = disk.as_ref().map_or("", |disk| disk.path());
    let mid = (kind == "mid").then(MidSize::on);
    let shared = (kind == "shared_huge").then(HugeShared::on);
    let mut target = Target::spawn("paths", &[kind, case.action, device]);
    drop((mid, shared));
    if ["huge", "shared_huge"].contains(&kind) {
        assert_huge(&target);
    }
    let held = Held::begin(target.pid(), how);
    (case.outside)(&target);
    let answer = match case.action {
        "exit" => {
            target.nudge();
            target.assert_exits();
            None
        }
        "killed" => {
            target.assert_exits();
            None
        }
        _ => Some(target.ask()),
    };
    let name = format!("{} {kind}", case.action);
    let snapshot = match held.let_go() {
        Ok(snapshot) => snapshot,
        Err(failed) => {
            assert_eq!(target.ask(), "right\n", "{name}");
            return Err(failed);
        }
    };
    if let Some(answer) = answer {
        assert_between(&snapshot, &answer, &name);
        assert_eq!(target.ask(), "right\n", "{name}");
    }
    assert_threads(&snapshot, &name);
    let wrong = wrong(&target, &snapshot, kind);
    drop(target); // before its disk and its swap
    drop((swap, disk));
    Ok(Outcome {
        take: snapshot.take,
        wrong_pages: wrong.len(),
        wrong: (!wrong.is_empty()).then(|| {
            format!(
                "{name}: {} pages are wrong, the first {:?}; {:?}",
                wrong.len(),
                &wrong[..wrong.len().min(8)],
                snapshot.take.counts
            )
        }),
    })
}

fn assert_huge(target: &Target) {
    let huge = sh(&format!(
        "awk '/AnonHugePages|ShmemPmdMapped/ {{ kib += $2 }} END {{ print kib }}' /proc/{}/smaps",
        target.pid()
    ));
    assert!(huge.trim().parse::<u32>().unwrap() >= 4096, "{huge}");
}

/// What was done was done after the window and before the end.
fn assert_between(snapshot: &Snapshot, answer: &str, name: &str) {
    assert!(!answer.is_empty(), "{name}: the target is gone");
    let said = numbers(answer);
    let phases = &snapshot.take.phases;
    let window = phases[Phase::ThawTasks as usize].end_ns;
    let end = phases[Phase::Finalize as usize].end_ns;
    assert!(
        window < said["begin"] && said["end"] < end,
        "{name}: {window} {said:?} {end}"
    );
}

/// The image has the threads that stood still, and none that was born since: the kernel may make workers at any time.
fn assert_threads(snapshot: &Snapshot, name: &str) {
    let counts = &snapshot.take.counts;
    let still = counts.threads_parked + counts.threads_asleep + counts.threads_kernel;
    let image = Image::open(&snapshot.file);
    assert_eq!(image.header.threads.count, still, "{name}");
}

/// The pages of the region that are not in the image as the target had them at the instant.
pub fn wrong(target: &Target, snapshot: &Snapshot, kind: &str) -> Vec<usize> {
    let image = Image::open(&snapshot.file);
    let (start, salt) = (target.at("region"), target.at("salt"));
    let count = usize::try_from(target.at("pages")).unwrap();
    let pages = image.pages(target.pid(), start, count);
    let is_wrong = |(number, page): (usize, &Option<Vec<u64>>)| {
        let origin = if kind == "same" {
            0
        } else {
            start + number as u64 * 4096
        };
        let expected = (0..512).map(|word| (origin + word * 8) ^ salt);
        let right = page
            .as_ref()
            .is_some_and(|page| page.iter().copied().eq(expected));
        (!right).then_some(number)
    };
    pages.iter().enumerate().filter_map(is_wrong).collect()
}

impl Outcome {
    /// Says so if others than expected took the references.
    pub fn not_by(&self, case: &Case, kind: &str) -> Option<String> {
        let finalized = self.take.counts.finalized;
        let mut others = finalized[abi::PATH_STOP as usize].min(BATCHED as u64);
        // mlock() asks with force (6.1).
        if case.path == abi::PATH_FAULT {
            others += finalized[abi::PATH_GUP as usize];
        }
        (finalized[case.path as usize] + others < case.pages).then(|| {
            format!(
                "{} {kind}: not {} pages by path {}, but {finalized:?}",
                case.action, case.pages, case.path
            )
        })
    }
}
