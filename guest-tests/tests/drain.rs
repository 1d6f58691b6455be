//! What is done with the pages while an image is read: they are mapped, looked at, and let go.

use std::os::unix::fs::FileExt as _;

use guest_tests::device::{Device, Snapshot};
use guest_tests::image::Image;
use guest_tests::memory::pagemap;
use guest_tests::oracle::Oracle;
use guest_tests::target::Target;
use guest_tests::unchanged::pages;
use snap_common::abi;

const PAGE: usize = 4096;

fn take(pids: &[i32]) -> Snapshot {
    Device::open()
        .take(pids, 0)
        .unwrap_or_else(|failed| panic!("{failed:?}"))
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().expect("it is the kernel's")
}

#[test]
fn a_mapping_shows_the_bytes_of_pread() {
    for kind in ["small", "thp"] {
        let oracle = Oracle::spawn(2048, kind);
        let snapshot = take(&[oracle.target.pid()]);
        let bytes = usize::try_from(snapshot.take.image_bytes).unwrap();
        let mut expected = vec![0; bytes];
        snapshot.file.read_exact_at(&mut expected, 0).unwrap();
        let whole = snapshot.map(0, bytes, libc::PROT_READ, libc::MAP_SHARED).unwrap();
        oracle.overwritten();
        assert!(whole.bytes() == expected, "the whole of {kind} pages");
        let page = (bytes / PAGE / 2) * PAGE;
        let one = snapshot.map(page as u64, PAGE, libc::PROT_READ, libc::MAP_SHARED);
        assert!(one.unwrap().bytes() == &expected[page..page + PAGE]);
        // The pages are there as long as the mapping is, whatever becomes of the descriptor.
        drop(snapshot);
        assert!(whole.bytes() == expected);
        drop(whole);
    }
    assert_eq!(Device::open().open_snapshots(), 0);
}

#[test]
fn a_mapping_is_read_only_and_of_the_image() {
    let target = Target::spawn("oracle", &["256", "small"]);
    let snapshot = take(&[target.pid()]);
    let bytes = usize::try_from(snapshot.take.image_bytes).unwrap();
    let read = libc::PROT_READ;
    for (offset, length, protection, flags, wanted) in [
        (0, PAGE, read | libc::PROT_WRITE, libc::MAP_SHARED, libc::EACCES),
        (0, PAGE, read, libc::MAP_PRIVATE, libc::EINVAL),
        (0, PAGE, read | libc::PROT_WRITE, libc::MAP_PRIVATE, libc::EINVAL),
        (0, PAGE, read | libc::PROT_EXEC, libc::MAP_SHARED, libc::EINVAL),
        (0, bytes + PAGE, read, libc::MAP_SHARED, libc::ENXIO),
        (bytes as u64, PAGE, read, libc::MAP_SHARED, libc::ENXIO),
    ] {
        match snapshot.map(offset, length, protection, flags) {
            Ok(_) => panic!("{length} bytes at {offset} with {protection:#x}, {flags:#x} are mapped"),
            Err(error) => assert_eq!(errno(&error), wanted, "{error}"),
        }
    }
    let mapped = snapshot.map(0, 2 * PAGE, read, libc::MAP_SHARED).unwrap();
    let start = mapped.bytes().as_ptr() as *mut libc::c_void;
    // SAFETY: the range is the mapping; the call is to fail.
    assert_eq!(unsafe { libc::munmap(start, PAGE) }, -1, "it cannot be cut");
    // SAFETY: likewise.
    let writable = unsafe { libc::mprotect(start, 2 * PAGE, read | libc::PROT_WRITE) };
    assert_eq!(writable, -1);
}

#[test]
fn what_was_let_go_cannot_be_read_again() {
    let oracle = Oracle::spawn(2048, "small");
    let snapshot = take(&[oracle.target.pid()]);
    let header = Image::open(&snapshot.file).header;
    let data = header.data_offset;
    let released = snapshot.release(3, 5).unwrap();
    assert_eq!(released.released, 5);
    assert_eq!(
        snapshot.release(0, 10).unwrap().released,
        5,
        "what is left of them"
    );
    let mut page = [0; PAGE];
    for index in 0..10 {
        let read = snapshot.file.read_exact_at(&mut page, data + index * 4096);
        assert_eq!(errno(&read.unwrap_err()), libc::ENODATA);
    }
    snapshot
        .file
        .read_exact_at(&mut page, data + 10 * 4096)
        .expect("the next one is there");
    let mut tables = vec![0; usize::try_from(data).unwrap()];
    snapshot
        .file
        .read_exact_at(&mut tables, 0)
        .expect("the tables are");
    for (page, pages) in [
        (header.data_pages, 1),
        (0, header.data_pages + 1),
        (u64::MAX, 1),
        (1, u64::MAX),
    ] {
        assert_eq!(errno(&snapshot.release(page, pages).unwrap_err().0), libc::EINVAL);
    }
    let all = snapshot.release(0, header.data_pages).unwrap();
    assert_eq!(all.released, header.data_pages - 10);
    let look = snapshot.look(&mut []).unwrap();
    assert_eq!((look.held, look.sole), (0, 0));
    oracle.target.assert_runs();
}

#[test]
fn what_is_mapped_is_not_let_go() {
    let oracle = Oracle::spawn(2048, "small");
    let snapshot = take(&[oracle.target.pid()]);
    let header = Image::open(&snapshot.file).header;
    let at = header.data_offset + 600 * 4096;
    let mapped = snapshot.map(at, PAGE, libc::PROT_READ, libc::MAP_SHARED).unwrap();
    let before = mapped.bytes().to_vec();
    let (error, done) = snapshot.release(0, header.data_pages).unwrap_err();
    assert_eq!(errno(&error), libc::EBUSY);
    assert_eq!(done.released, header.data_pages - 1, "all but that page");
    oracle.overwritten();
    assert!(mapped.bytes() == before);
    drop(mapped);
    assert_eq!(snapshot.release(0, header.data_pages).unwrap().released, 1);
}

#[test]
fn a_look_tells_what_the_writer_had_to_copy() {
    let mut target = Target::spawn("menagerie", &[]);
    let snapshot = take(&[target.pid()]);
    let image = Image::open(&snapshot.file);
    let (start, count) = (target.at("private"), target.at("private_pages"));
    let all = pages(&image, target.pid(), |_| true);
    let first = all[&start];
    let mut stretch = [abi::Stretch {
        page: first,
        pages: u32::try_from(count).unwrap(),
        sole: 7,
    }];
    let sums = snapshot.look(&mut stretch).unwrap();
    assert_eq!(stretch[0].sole, 0, "nobody has written");
    assert_eq!(
        (sums.held, sums.sole),
        (0, 0),
        "who asks for stretches gets no sums"
    );
    let before = snapshot.look(&mut []).unwrap();
    assert_eq!(before.held, image.header.data_pages);
    assert!(target.ask().starts_with("changed"));
    snapshot.look(&mut stretch).unwrap();
    let after = snapshot.look(&mut []).unwrap();
    assert_eq!(u64::from(stretch[0].sole), count, "every page was written");
    assert!(after.sole >= before.sole + count, "{before:?}, {after:?}");
    assert_eq!(snapshot.release(first, count).unwrap().sole, count);
    assert_eq!(snapshot.look(&mut []).unwrap().sole, after.sole - count);
}

/// Released before it writes, a page is not copied: its frame stays the same.
#[test]
fn who_writes_to_what_was_let_go_copies_nothing() {
    let mut target = Target::spawn("menagerie", &[]);
    let (start, count) = (target.at("private"), target.at("private_pages"));
    let pid = target.pid();
    let frames = || -> Vec<u64> {
        (0..count)
            .map(|index| pagemap(pid, start + index * 4096) & ((1 << 55) - 1))
            .collect()
    };
    let before = frames();
    let snapshot = take(&[target.pid()]);
    let all = snapshot
        .release(0, Image::open(&snapshot.file).header.data_pages)
        .unwrap();
    let after_release = frames();
    assert_eq!(before, after_release, "{all:?}");
    assert!(target.ask().starts_with("changed"));
    assert_eq!(before, frames(), "no page was copied");
    drop(snapshot);
    // The control: with the snapshot held, every page is.
    let snapshot = take(&[target.pid()]);
    assert!(target.ask().starts_with("changed"));
    let look = snapshot.look(&mut []).unwrap();
    assert!(look.sole >= count, "{look:?}");
}

#[test]
fn what_processes_share_is_there_once() {
    let oracle = Oracle::spawn(64, "small");
    let (pid, child) = (oracle.target.pid(), oracle.child());
    let snapshot = take(&[pid, child]);
    let image = Image::open(&snapshot.file);
    let (of_parent, of_child) = (pages(&image, pid, |_| true), pages(&image, child, |_| true));
    // Written before the fork, and by nobody since.
    let start = oracle.target.at("constant");
    for address in (start..).step_by(PAGE).take(8) {
        assert_eq!(
            of_parent[&address], of_child[&address],
            "{address:#x} is there once"
        );
    }
    let shared = oracle.target.at("shared");
    assert_eq!(
        of_parent[&shared], of_child[&shared],
        "shared memory is there once"
    );
    let named = (of_parent.len() + of_child.len()) as u64;
    assert!(
        image.header.data_pages < named,
        "{} of {named}",
        image.header.data_pages
    );
    assert_eq!(oracle.wrong(&snapshot), [""; 0]);
}
