//! Snapshots of a process whose memory must be consistent at every instant, checked word by word, under load.

use std::os::unix::fs::FileExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_tests::device::{Device, Snapshot};
use guest_tests::image::Image;
use guest_tests::knob::Knob;
use guest_tests::target::Target;
use guest_tests::{patience, rounds, sh};
use snap_common::abi;

const PAGES: usize = 1024;

fn oracle(pages: &str) -> Target {
    let target = Target::spawn("oracle", &[&PAGES.to_string(), pages]);
    target.assert_runs();
    target
}

fn take(target: &Target) -> Snapshot {
    let snapshot = take_now(target);
    overwritten(target);
    snapshot
}

fn take_now(target: &Target) -> Snapshot {
    let pids = [target.pid(), i32::try_from(target.at("child")).unwrap()];
    Device::open()
        .take(&pids, 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"))
}

/// Waits until every page has been written again: what is not copy-on-write is wrong by then.
fn overwritten(target: &Target) {
    let before = generation(target);
    let begin = Instant::now();
    while generation(target) < before + 2 {
        assert!(begin.elapsed() < patience(60), "the writer stands still");
        sleep(Duration::from_millis(5));
    }
}

/// The generation of the region's first word now.
fn generation(target: &Target) -> u64 {
    let memory = std::fs::File::open(format!("/proc/{}/mem", target.pid())).unwrap();
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, target.at("region")).unwrap();
    u64::from_ne_bytes(word)
}

/// Everything that is wrong with the memory of a snapshot; nothing, if the module does its work.
fn wrong(target: &Target, snapshot: &Snapshot) -> Vec<String> {
    let image = Image::open(&snapshot.file);
    let mut wrong = Vec::new();
    wrong.extend(wrong_generations(target, &image));
    wrong.extend(wrong_counters(target, &image));
    wrong.extend(wrong_constants(target, &image));
    let child = i32::try_from(target.at("child")).unwrap();
    let sent = image.word(target.pid(), target.at("pipe"));
    let received = image.word(child, target.at("pipe") + 8);
    if received > sent || sent > received + 65_537 {
        wrong.push(format!("{received} bytes received of {sent} sent"));
    }
    wrong
}

fn wrong_generations(target: &Target, image: &Image) -> Option<String> {
    let pages = image.pages(target.pid(), target.at("region"), PAGES);
    if let Some(missing) = pages.iter().position(Option::is_none) {
        return Some(format!("page {missing} of the region is not in the image"));
    }
    let words: Vec<_> = pages
        .into_iter()
        .flatten()
        .flat_map(|page| page.into_iter().step_by(64))
        .collect();
    let (first, last) = (words[0], words[words.len() - 1]);
    (first - last.min(first) > 1 || last > first || !words.is_sorted_by(|one, next| one >= next))
        .then(|| format!("the generations go from {first} to {last}, not in order"))
}

fn wrong_counters(target: &Target, image: &Image) -> Option<String> {
    let count = usize::try_from(target.at("count")).unwrap();
    let pages = image.pages(target.pid(), target.at("counters"), count + 1);
    let words: Vec<_> = pages
        .iter()
        .map(|page| page.as_ref().map_or(0, |page| page[0]))
        .collect();
    let (counters, held) = (&words[..count], words[count] == 1);
    let ahead = counters
        .iter()
        .take_while(|counter| **counter == counters[0])
        .count();
    let rest = &counters[ahead..];
    let explained = rest.is_empty() || held && rest.iter().all(|counter| counter + 1 == counters[0]);
    (!explained).then(|| format!("the counters differ: {counters:?}, lock held: {held}"))
}

fn wrong_constants(target: &Target, image: &Image) -> Vec<String> {
    let mut wrong = Vec::new();
    let pages = usize::try_from(target.at("constant_pages")).unwrap();
    for pid in [target.pid(), i32::try_from(target.at("child")).unwrap()] {
        for (number, page) in image
            .pages(pid, target.at("constant"), pages)
            .into_iter()
            .enumerate()
        {
            let expected =
                (0..512).map(|word| (number as u64 * 512 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if !page.is_some_and(|page| page.into_iter().eq(expected)) {
                wrong.push(format!("page {number} shared by fork is wrong in {pid}"));
            }
        }
        for name in ["zero", "untouched"] {
            let pages = image.pages(pid, target.at(name), pages);
            if pages.iter().flatten().flatten().any(|word| *word != 0) {
                wrong.push(format!("{name} pages are not zero in {pid}"));
            }
        }
        for (number, page) in image.pages(pid, target.at("file"), pages).into_iter().enumerate() {
            let written = number % 2 == 0;
            let right = match page {
                Some(page) => written && page.iter().all(|word| *word == 0x2222_2222_2222_2222),
                None => !written,
            };
            if !right {
                wrong.push(format!(
                    "page {number} of the private file mapping is wrong in {pid}"
                ));
            }
        }
    }
    let shared = image.pages(
        target.pid(),
        target.at("shared"),
        usize::try_from(target.at("shared_pages")).unwrap(),
    );
    let words: Vec<_> = shared
        .iter()
        .map(|page| page.as_ref().map_or(0, |page| page[0]))
        .collect();
    if !words.is_sorted_by(|one, next| one >= next) || words[0] - words[words.len() - 1] > 1 {
        wrong.push(format!("the shared pages are not of one instant: {words:?}"));
    }
    wrong
}

fn check(pages: &str) {
    let target = oracle(pages);
    let mut threads = 0;
    for round in 0..rounds(55) {
        let snapshot = take(&target);
        assert_eq!(
            wrong(&target, &snapshot),
            [""; 0],
            "round {round}: {:?}",
            snapshot.take.counts
        );
        let image = Image::open(&snapshot.file);
        let found = image.threads(&image.process(target.pid()));
        assert_eq!(found.len(), 11, "every thread is in the image");
        assert!(
            found.iter().all(|thread| thread.regs.length > 216),
            "with its registers"
        );
        threads += snapshot.take.counts.threads_parked;
    }
    assert!(threads > 0, "threads were parked");
    target.assert_runs();
}

#[test]
fn small_pages_are_of_one_instant() {
    check("small");
}

#[test]
fn huge_pages_are_of_one_instant() {
    check("thp");
}

#[test]
fn without_arming_the_snapshot_is_wrong() {
    let target = oracle("small");
    let _knob = Knob::set("test_no_arm", 1);
    let broken = (0..10)
        .filter(|_| !wrong(&target, &take(&target)).is_empty())
        .count();
    assert_eq!(broken, 10, "the check sees that nothing was armed");
}

#[test]
fn without_freezing_the_snapshot_is_wrong() {
    let target = oracle("small");
    let _knob = Knob::set("test_no_freeze", 1);
    let broken = (0..60)
        .filter(|_| !wrong(&target, &take(&target)).is_empty())
        .count();
    assert!(broken > 0, "the check sees that nobody stood still");
}

#[test]
fn swapped_pages_are_in_the_image() {
    let _swap = Swap::on_zram();
    for no_prefault in [0, 1] {
        let _knob = Knob::set("test_no_prefault", no_prefault);
        let target = oracle("small");
        let mut brought_in = 0;
        for round in 0..rounds(5) {
            // Stopped, it cannot bring its pages back before the snapshot does.
            signal(&target, libc::SIGSTOP);
            page_out(target.pid(), target.at("region"), PAGES as u64 * 4096);
            let snapshot = take_now(&target);
            signal(&target, libc::SIGCONT);
            overwritten(&target);
            assert_eq!(wrong(&target, &snapshot), [""; 0], "round {round}");
            let abi::Counts {
                pages_swapped_in,
                pages_prefaulted,
                ..
            } = snapshot.take.counts;
            brought_in += if no_prefault == 1 {
                pages_swapped_in
            } else {
                pages_prefaulted
            };
        }
        assert!(brought_in > 0, "some pages were in swap");
    }
}

fn signal(target: &Target, signal: i32) {
    // SAFETY: no memory is involved; the process is our child and not reaped yet.
    assert_eq!(unsafe { libc::kill(target.pid(), signal) }, 0);
}

/// Pushes pages of another process to swap.
fn page_out(pid: i32, start: u64, bytes: u64) {
    let range = libc::iovec {
        iov_base: start as *mut _,
        iov_len: usize::try_from(bytes).unwrap(),
    };
    // SAFETY: no memory of ours is involved.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(pidfd >= 0);
    // SAFETY: `range` outlives the call; MADV_PAGEOUT changes no content.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            pidfd,
            &raw const range,
            1,
            libc::MADV_PAGEOUT,
            0,
        )
    };
    assert!(advised > 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is ours.
    assert_eq!(unsafe { libc::close(i32::try_from(pidfd).unwrap()) }, 0);
}

/// A zram device as swap, taken away at the end.
struct Swap;

impl Swap {
    fn on_zram() -> Self {
        sh("modprobe zram; echo 256M > /sys/block/zram0/disksize; mkswap -q /dev/zram0; swapon /dev/zram0");
        Self
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        sh("swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset");
    }
}
